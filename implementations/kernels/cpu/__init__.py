"""Fused forms for the CPU, in plain PyTorch with backward passes written by hand."""
