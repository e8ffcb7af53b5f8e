"""The system below: git, signals, child processes, the allocator, shipped files."""
