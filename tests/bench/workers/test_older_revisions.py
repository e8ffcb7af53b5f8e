"""A gate's worker runs this harness on an older revision's `implementations`: it asks for lasting names.

A newer name is imported inside the function that needs it, for cases that no older revision has.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
ENTRIES = ("workers/template.py", "workers/worker.py", "workers/findings.py", "workers/location.py")

LASTING = {
    "implementations": {"activation", "registry"},
    "implementations.decoding": {"Generation", "NoRecurrentForm"},
    "implementations.encoder": {"padding_mask_of", "parameter_count"},
    "implementations.errors": {"RegistryError", "YamlError"},
    "implementations.kernels": {"backend"},
    "implementations.ops": {"sizes"},
    "implementations.registry": {"Implementation"},
    "implementations.task": {"PADDING", "Task"},
    "implementations.yaml_files": {"read_yaml"},
}
"""Modules and names that commit e843c4a, before the folders of today, has too."""
APART = {"bench.steps.prediction", "bench.steps.equal_size"}
"""Asked for by `bench run` alone."""


def imports(body: list[ast.stmt], inside: bool) -> Iterator[tuple[str, str]]:
    """Modules and the names that they are imported for; inside: those of functions too."""
    for node in body:
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, name.name) for name in node.names)
        elif isinstance(node, ast.Import):
            yield from ((name.name, "") for name in node.names)
        elif isinstance(node, ast.ClassDef) or (inside and isinstance(node, ast.FunctionDef)):
            yield from imports(node.body, inside)


def file_of(module: str) -> Path | None:
    stem = ROOT.joinpath(*module.split("."))
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


def asked_for() -> set[tuple[str, str]]:
    """What the worker's modules, and all that these import, want of `implementations`."""
    waiting = [(ROOT / "bench" / entry, True) for entry in ENTRIES]
    seen, found = set(), set()
    while waiting:
        path, inside = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for module, name in imports(ast.parse(path.read_text(encoding="utf-8")).body, inside):
            if module.startswith("implementations"):
                found.add((module, name))
            elif module.startswith("bench"):
                files = [file_of(one) for one in {f"{module}.{name}".rstrip("."), module} - APART]
                waiting += [(file, False) for file in files if file is not None]
    return found


def test_a_worker_imports_only_what_older_revisions_have():
    found = asked_for()
    assert ("implementations", "registry") in found
    newer = {(module, name) for module, name in found if name not in LASTING.get(module, ())}
    assert newer == set(), "import these where a newer case needs them"
