"""Which configuration to try next, and what proves the best one."""
