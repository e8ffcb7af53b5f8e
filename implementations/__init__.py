"""The models: one file per system, none of which knows that it is measured."""
