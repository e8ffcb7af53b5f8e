"""The commands, one file per command: each parses, calls and prints."""
