"""Primitives that several models share, in plain PyTorch: each is the oracle of its fused forms."""
