"""Errors of the user's own input: one clear line, exit code 2."""


class UsageError(Exception):
    """Bad input or an environment that cannot measure. The message says what, where and what to do."""


class ResultError(UsageError):
    """A result file that cannot be read or written."""
