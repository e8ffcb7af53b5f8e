"""Fused primitives: CPU and Triton, each with the plain form as its reference."""
