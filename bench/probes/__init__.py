"""Probes: each reads one thing of the machine or of a step, and decides nothing."""
