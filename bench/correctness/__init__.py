"""Correctness: does it compute what the official code computes, and what its reference does?"""
