"""Correctness: a model against the official code, and a variant against its reference."""
