"""The pages keep up with the code: every model, chart and command that they should have is there."""

import re
from pathlib import Path

import pytest
import yaml

from bench.cli import app
from implementations import registry

ROOT = Path(__file__).parent.parent
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")}
WORKFLOW = ROOT / ".github" / "workflows" / "gpu.yml"
COMMAND = r"^ *(?:- )?(?:run: )?bench (.+?)(?: *(?:#|\|\|).*)?$"


def test_every_model_has_its_place():
    models = {item.name for item in registry.catalogue().values() if "." in item.path}
    named = set(re.findall(r"^\| `([^`]+)` \|", PAGES["models"], flags=re.MULTILINE))
    assert {name for name in models if registry.find(name).path.startswith("implementations.")} <= named


def test_every_chart_is_described():
    from bench.views.charts.charts import CHARTS

    named = re.findall(r"^\| `([^`]+)` \|", PAGES["charts-and-reports"], flags=re.MULTILINE)
    assert named == [*CHARTS, "roofline"]


@pytest.mark.parametrize("page", [*PAGES, "workflow"])
def test_commands_and_options_in_the_pages_exist(page):
    import typer

    text = WORKFLOW.read_text(encoding="utf-8") if page == "workflow" else PAGES[page]
    for line in re.findall(COMMAND, text, flags=re.MULTILINE):
        command, words = typer.main.get_command(app), line.split()
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word.partition("=")[0] for word in words if word.startswith("-")} <= options, line


class Configuration(yaml.SafeLoader):
    """MkDocs' own: names of Python objects are only names here."""


Configuration.add_multi_constructor("tag:yaml.org,2002:python/name:", lambda loader, name, node: name)


def test_every_folder_of_the_package_is_in_the_architecture():
    folders = {
        path.parent for package in ("bench", "implementations") for path in (ROOT / package).rglob("*.py")
    }
    names = {folder.name for folder in folders if folder.parent != ROOT}
    tree = PAGES["architecture"].split("```")[1]
    named = set(re.findall(r"^ +(\w+)/ ", tree, flags=re.MULTILINE))
    assert names - {"cpu", "triton"} == named - {"cards"}


def test_the_navigation_has_every_page_that_is_there():
    configuration = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    navigation = yaml.load(configuration, Configuration)["nav"]
    listed = {next(iter(entry.values())) for entry in navigation}
    assert listed <= {*(f"{name}.md" for name in PAGES), "paper-table.ipynb"}
