"""Statistics: numbers in, intervals out; knows no files."""
