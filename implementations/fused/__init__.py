"""Whole layers on fused kernels."""
