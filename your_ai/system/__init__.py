"""What the operating system knows of a machine, a process and its memory."""
