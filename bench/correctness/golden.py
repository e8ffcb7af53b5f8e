"""Golden vectors: what official code computed, one `<system>/<case>.safetensors` per case.

Tensors are keyed `<group>/<official name>`; see GROUPS. The header names the module and its config.
"""

import fnmatch
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import UsageError
from bench.text.escape import one_line

if TYPE_CHECKING:
    from torch import Tensor

OPTIONAL = "OPTIONAL.txt"
GROUPS = ("param", "buffer", "in", "out", "cot", "grad_in", "grad_param")
"""Groups of tensors. `cot` holds cotangents: the recorded loss is the sum of outputs times cotangents."""


class GoldenError(UsageError):
    """A folder or file of golden vectors that cannot be read."""


@dataclass(frozen=True)
class GoldenCase:
    """One recorded case: tensors by group and official name, and the module's config."""

    system: str
    name: str
    module: str
    config: dict[str, Any]
    notes: str
    tensors: "dict[str, dict[str, Tensor]]"

    def group(self, name: str) -> "dict[str, Tensor]":
        return self.tensors[name]


@dataclass(frozen=True)
class GoldenFile:
    """The file of a case, and whether an implementation must pass it."""

    path: Path
    system: str
    name: str
    required: bool

    def read(self) -> GoldenCase:
        """Load the case. Raises GoldenError if the file does not hold golden vectors."""
        from safetensors import SafetensorError, safe_open

        tensors: dict[str, dict[str, Any]] = {group: {} for group in GROUPS}
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                for key in file.keys():  # noqa: SIM118  (safe_open is not a mapping)
                    group, _, name = key.partition("/")
                    tensors[group][name] = file.get_tensor(key)
            config = json.loads(metadata["config"])
            if not isinstance(config, dict):
                raise GoldenError(f"{self.path}: not a file of golden vectors (its config is not a mapping)")
            return GoldenCase(
                system=self.system,
                name=self.name,
                module=metadata["module"],
                config=config,
                notes=metadata.get("notes", ""),
                tensors=tensors,
            )
        except (SafetensorError, OSError, LookupError, TypeError, ValueError, RecursionError) as error:
            raise GoldenError(f"{self.path}: not a file of golden vectors ({one_line(str(error))})") from None


def systems(folder: Path) -> list[str]:
    """Systems that a folder holds vectors of."""
    return sorted({file.system for file in find_cases(folder)})


def find_cases(folder: Path) -> Iterator[GoldenFile]:
    """Every case below a folder, by system and name. Raises GoldenError if there is none."""
    if not folder.is_dir():
        raise GoldenError(f"{folder}: no such folder; give the folder of golden vectors with --golden")
    optional = _optional_patterns(folder / OPTIONAL)
    paths = sorted(folder.glob("*/*.safetensors"))
    if not paths:
        raise GoldenError(f"{folder}: holds no <system>/<case>.safetensors")
    for path in paths:
        name = f"{path.parent.name}/{path.stem}"
        required = not any(fnmatch.fnmatch(name, pattern) for pattern in optional)
        yield GoldenFile(path, path.parent.name, path.stem, required)


def _optional_patterns(path: Path) -> list[str]:
    if not path.is_file():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise GoldenError(f"{path}: is not a list of case names ({error})") from None
    return [line.strip() for line in lines if line.strip()]
