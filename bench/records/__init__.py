"""Records: the structs of every file that outlives a process, and their reading and writing."""
