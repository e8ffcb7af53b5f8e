"""YAML files, by the safe loader: data only, and one clear line for whatever is none."""

from pathlib import Path
from typing import Any

import yaml

from implementations.errors import YamlError


def read_yaml(path: Path) -> Any:
    """What a file holds. Raises YamlError."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise YamlError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise YamlError(f"{path}: is no UTF-8 text (byte {error.start})") from None
    except yaml.YAMLError as error:
        raise YamlError(f"{path}: not valid YAML: {_problem(error)}") from None
    except RecursionError:
        raise YamlError(f"{path}: not valid YAML: nested too deeply") from None
    except (ValueError, LookupError, AttributeError) as error:
        # The loader lets through what fails in Python's own types: 2001-99-99, !!int x.
        raise YamlError(f"{path}: not valid YAML: {error}") from None


def _problem(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return str(error).splitlines()[0]
