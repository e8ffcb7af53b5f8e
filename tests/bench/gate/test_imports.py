"""Which models a change touches: by what they import, in both revisions."""

import pytest

from bench.gate.imports import Tree, touched
from bench.gate.revisions import Code, checked_out
from bench.probes.imports import Unknown
from bench.system.repository import Repository

from ..repositories import commit, git

FILES = {
    "src/lib/__init__.py": "",
    "src/lib/conv.py": "from . import ops\nfrom .layers.norm import Norm",
    "src/lib/ops.py": "import math, numpy",
    "src/lib/attention.py": "from lib.layers import rotary",
    "src/lib/layers/__init__.py": "",
    "src/lib/layers/norm.py": "",
    "src/lib/layers/rotary.py": "",
    "src/lib/layers/kernels/norm.cpp": "1",
    "src/lib/lazy.py": "import importlib\ndef build(task, h):\n    return importlib.import_module('lib.ops')",
    "src/lib/computed.py": "import importlib\nimportlib.import_module(f'lib.{__name__}')",
    "alone.py": "",
    "alone.json": "1",
    "README.md": "1",
    "data/sizes.json": "1",
}
MODELS = ["lib.conv:build", "lib.attention:build", "lib.lazy:build", "lib.computed:build", "alone:build"]
CONV, ATTENTION, LAZY, COMPUTED, ALONE = MODELS


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("mine")
    git(root, "init", "--quiet")
    commit(root, **FILES)
    git(root, "tag", "first")
    return root


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"README.md": "2"}, []),
        ({"data/sizes.json": "2"}, [COMPUTED]),
        ({"src/lib/ops.py": "2"}, [CONV, LAZY, COMPUTED]),
        ({"src/lib/layers/norm.py": "2"}, [CONV, COMPUTED]),
        ({"src/lib/layers/rotary.py": "2"}, [ATTENTION, COMPUTED]),
        ({"src/lib/layers/__init__.py": "2"}, [CONV, ATTENTION, COMPUTED]),
        ({"src/lib/layers/kernels/norm.cpp": "2"}, [CONV, ATTENTION, COMPUTED]),
        ({"src/lib/__init__.py": "2"}, [CONV, ATTENTION, LAZY, COMPUTED]),
        ({"src/lib/new.py": "2"}, [COMPUTED]),
        ({"alone.json": "2"}, [COMPUTED, ALONE]),
        ({"src/lib/attention.py": "def ("}, [ATTENTION, COMPUTED]),
        ({"src/lib/attention.py": "import lib.conv"}, [ATTENTION, COMPUTED]),
    ],
)
def test_models_that_a_change_touches(root, change, expected):
    git(root, "checkout", "--quiet", "--detach", "first")
    head = commit(root, **change)
    repository = Repository.around(root)
    commits = {"base": repository.commit("first"), "head": head}
    with checked_out(repository, commits, Code()) as revisions:
        assert [name for name in MODELS if touched(name, revisions["base"], revisions["head"])] == expected


def test_what_a_source_imports_is_found_or_said(root, tmp_path):
    tree = Tree(tmp_path, (tmp_path,))
    (tmp_path / "a.py").write_text("__import__('b')\nimport c.d as e\nfrom f import *\nimport torch")
    for name in ("b", "f"):
        (tmp_path / f"{name}.py").write_text("")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "d.py").write_text("from ..nowhere import x")
    assert {str(path.relative_to(tmp_path)) for path in tree.closure("a")} == {
        "a.py",
        "b.py",
        "c/d.py",
        "f.py",
    }
    (tmp_path / "a.py").write_text("__import__(name)")
    with pytest.raises(Unknown):
        tree.closure("a")
