"""Errors before a model is built. Imports nothing, so that a command line can catch them cheaply."""


class YamlError(ValueError):
    """A file that is not YAML. The message says what is wrong, and in which line."""


class RegistryError(ValueError):
    """An unknown implementation, or one that has no hyper-parameters for a task."""
