"""What a release carries beside its code: citation, types, one version, a notebook without stale outputs."""

import ast
import json
import re
from pathlib import Path

import pytest
import yaml

import bench
from implementations import registry

ROOT = Path(__file__).parent.parent
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
NOTEBOOK = json.loads((ROOT / "docs" / "paper-table.ipynb").read_text(encoding="utf-8"))


def test_the_citation_file_has_what_its_format_requires():
    assert {"cff-version", "message", "title", "authors"} <= set(CITATION)
    assert CITATION["license"] == "MIT"


def test_the_citation_names_the_paper_as_the_card_does():
    (paper,) = CITATION["references"]
    card = registry.find("seqboat").citation
    assert paper["title"] in card
    assert f"{paper['authors'][0]['family-names']} et al." in card
    assert paper["identifiers"][0]["value"].removeprefix("arXiv:") in card


def test_the_version_stands_in_one_place():
    assert re.fullmatch(r"\d+\.\d+\.\d+", bench.__version__)
    for name in ("pyproject.toml", "CITATION.cff", "mkdocs.yml", "Containerfile"):
        assert bench.__version__ not in (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("package", ["bench", "implementations"])
def test_the_packages_are_marked_as_typed(package):
    assert (ROOT / package / "py.typed").is_file()


def test_the_notebook_keeps_no_outputs_and_its_cells_are_code():
    cells = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    for cell in cells:
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        ast.parse("".join(line for line in cell["source"] if not line.startswith("%%")))


def test_the_notebook_s_model_is_the_readme_s():
    (readme,) = re.findall(
        r"```python\n# my_model\.py\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL
    )
    (mine,) = (cell for cell in NOTEBOOK["cells"] if cell["source"][0].startswith("%%writefile"))
    code = "".join(mine["source"][1:])
    assert ast.dump(ast.parse(code)) == ast.dump(ast.parse(readme))


def test_the_container_installs_a_torch_that_the_package_accepts():
    (wanted,) = re.findall(r'"(torch[<>=~!][^"]*)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert f'"{wanted}"' in (ROOT / "Containerfile").read_text(encoding="utf-8")
