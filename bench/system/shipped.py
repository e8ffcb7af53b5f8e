"""Location of files that come with the code: in the checkout, or inside the installed package."""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def shipped(folder: str) -> Path:
    """The folder of that path in the checkout, such as `results/published`, wherever this code runs."""
    checkout = _PACKAGE.parent / folder
    return checkout if checkout.is_dir() else _PACKAGE / "_packaged" / checkout.name
