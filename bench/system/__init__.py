"""The system: git, signals, child processes, the allocator, plug-ins, shipped files."""
