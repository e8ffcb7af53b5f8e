"""Official MEGA-chunk modules: MEGA's own, with a chunk size."""

from implementations.official.mega import MODULES

__all__ = ["MODULES"]
