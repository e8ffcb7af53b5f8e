"""YAML files, by the safe loader: data only, and one clear line for what is not valid.

Plain words are read by YAML 1.2 (core schema, section 10.3.2): `0100` is a hundred, and `1:30`, `1_0`, `on`
and `2026-11-30` are texts, while YAML 1.1 has 64, 90, 10, true and a date.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from implementations.errors import YamlError


class _Constructor(yaml.constructor.SafeConstructor):
    """PyYAML's safe one, with numbers of YAML 1.2, and an error for a repeated key."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands here a second time", key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep=deep)

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        text = str(self.construct_scalar(node))
        if re.fullmatch(r"[-+]?[0-9]+", text):
            return int(text)
        if text.startswith(("0o", "0x")):
            return int(text, 0)
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


_NUMBER = re.compile(
    r"""[-+]?[0-9]+$ | 0o[0-7]+$ | 0x[0-9a-fA-F]+$
    | [-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$
    | [-+]?\.(inf|Inf|INF)$ | \.(nan|NaN|NAN)$""",
    re.VERBOSE,
)
_BOOLEAN = re.compile(r"(true|True|TRUE|false|False|FALSE)$")
_OF_1_1 = (":int", ":float", ":bool", ":timestamp")


class _Resolver(yaml.resolver.Resolver):
    """PyYAML's, with plain words of YAML 1.2."""


_Resolver.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if not tag.endswith(_OF_1_1)]
    for first, rules in yaml.resolver.Resolver.yaml_implicit_resolvers.items()
}
_Resolver.add_implicit_resolver("tag:yaml.org,2002:int", _NUMBER, list("-+0123456789."))
_Resolver.add_implicit_resolver("tag:yaml.org,2002:bool", _BOOLEAN, list("tTfF"))


class _Loader(_Constructor, _Resolver, yaml.SafeLoader):
    """PyYAML's safe loader."""


_QuickLoader: Any = (
    type("_QuickLoader", (_Constructor, _Resolver, yaml.CSafeLoader), {})
    if yaml.__with_libyaml__
    else _Loader
)
"""The same with the parser of libyaml, at a tenth of the time."""
_loaders: tuple[Any, ...] = (_Loader, _QuickLoader)
for _each in _loaders:
    _each.add_constructor("tag:yaml.org,2002:int", _Constructor.construct_number)


def read_yaml(path: Path, *, ours: bool = False) -> Any:
    """Read a YAML file. Raises YamlError.

    ours: whether it comes with this package. libyaml has other words for what is wrong with a file, and may
    run out of stack where one of somebody else's nests without end.
    """
    loader = _QuickLoader if ours else _Loader
    try:
        return loader(path.read_text(encoding="utf-8")).get_single_data()
    except OSError as error:
        raise YamlError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise YamlError(f"{path}: is not UTF-8 text (byte {error.start})") from None
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
