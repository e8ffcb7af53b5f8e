"""The CPU's kernels in C, for what torch's operators do in many passes over memory."""
