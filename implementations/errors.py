"""What can go wrong before a model is built. Imports nothing, so that a command line can catch it cheaply."""


class RegistryError(ValueError):
    """An unknown implementation, or one that has no hyper-parameters for a task."""
