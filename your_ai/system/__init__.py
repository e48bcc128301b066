"""The operating system: the machine, its processes, their memory, signals and sleep."""
