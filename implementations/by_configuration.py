"""Models of transformers by configuration alone: `hf:mamba2` by its type, `hf:path/config.json` by a file.

They are built by an adapter, which is named here and imported when a model is built.
"""

import json
from pathlib import Path
from typing import Any

from implementations.errors import RegistryError
from implementations.folders import expanded

PREFIX = "hf:"
BUILD = "peers.huggingface:build"
MOST_BYTES = 1 << 20
"""Largest size of a file; a configuration is a page or two."""


def is_file(name: str) -> bool:
    """Whether a name names a file, such as `hf:path/config.json`."""
    rest = name.removeprefix(PREFIX)
    return "/" in rest or rest.endswith(".json")


def file_of(name: str) -> Path | None:
    """The file of a name, with or without a setting; None for a name of anything else."""
    use = name.partition("(")[0].rpartition("=")[2].strip()
    return expanded(use.removeprefix(PREFIX)) if use.startswith(PREFIX) and is_file(use) else None


def options_of(name: str) -> dict[str, Any]:
    """Options for the adapter: a type of model, or a file's configuration.

    Raises RegistryError: the name and what is wrong.
    """
    rest = name.removeprefix(PREFIX)
    if not rest:
        raise RegistryError(f"{name}: give a type of model, hf:mamba2, or a file, hf:path/config.json")
    if not is_file(name):
        return {"model": rest}
    return {"configuration": _read(expanded(rest), name)}


def _read(path: Path, name: str) -> dict[str, Any]:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise RegistryError(f"{name}: is too large for a configuration")
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise RegistryError(f"{name}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise RegistryError(f"{name}: is not JSON ({error})") from None
    if not isinstance(found, dict) or not isinstance(found.get("model_type"), str):
        raise RegistryError(f"{name}: has no model_type; give a config.json of transformers")
    return found
