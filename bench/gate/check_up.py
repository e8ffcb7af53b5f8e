"""The doctor's findings."""

from typing import Literal

import msgspec

Status = Literal["ok", "warning", "problem"]


class CheckUp(msgspec.Struct, frozen=True):
    """One line of the diagnosis: what was found, and what to do about it."""

    name: str
    status: Status
    found: str
    advice: str = ""
