"""What the operating system knows of a process and its memory, read without starting anything."""
