"""Suites: what to measure."""
