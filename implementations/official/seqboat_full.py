"""The official SeqBoat-full: the modules of SeqBoat with attention over the whole working memory."""

from implementations.official.seqboat import MODULES

__all__ = ["MODULES"]
