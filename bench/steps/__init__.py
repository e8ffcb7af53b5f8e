"""Steps: one step of one case in this process, and what can be asked of it."""
