"""Records: every file that outlives a process; its structs, written and read."""
