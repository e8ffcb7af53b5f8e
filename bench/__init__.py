"""seqboat-bench: speed and memory of sequence models, measured so that the numbers can be trusted."""

__version__ = "0.1.0"
