"""The models, one file per system; none knows that it is measured."""
