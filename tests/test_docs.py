"""The pages keep up with the code: every model, chart and command that they should have is there."""

import re
from pathlib import Path

import pytest
import yaml

from bench.cli import app
from bench.suites import keys
from implementations import registry

ROOT = Path(__file__).parent.parent
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")}
WORKFLOW = ROOT / ".github" / "workflows" / "gpu.yml"
COMMAND = r"^ *(?:- )?(?:run: )?bench (.+?)(?: *(?:#|\|\||&&).*)?$"


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


def test_every_key_of_a_suite_is_in_the_page():
    """`python -m bench.suites.keys docs/suites.md` writes it anew."""
    assert keys.renewed(PAGES["suites"]) == PAGES["suites"]
    for part in keys.PARTS.values():
        for name, meaning in keys.documented(part).items():
            assert meaning, f"{part.__name__}.{name} has no docstring"


def test_a_key_that_the_page_lacks_is_found():
    page = PAGES["suites"]
    (row,) = (line for line in page.splitlines() if line.startswith("| `tokens` |"))
    assert keys.renewed(page.replace(f"{row}\n", "")) == page
    with pytest.raises(ValueError, match="the page has no"):
        keys.renewed("a page without a place for tables")


def test_every_field_of_a_row_is_described():
    from bench.views.tables.row import Row

    table = PAGES["python-api"].partition("Its fields:")[2].partition("\n\n`")[0]
    first_cells = "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+)`", first_cells)) == set(Row.__struct_fields__)


def test_every_folder_of_the_package_is_in_the_architecture():
    folders = {
        path.parent for package in ("bench", "implementations") for path in (ROOT / package).rglob("*.py")
    }
    names = {folder.name for folder in folders if folder.parent != ROOT}
    tree = PAGES["architecture"].split("```")[1]
    named = set(re.findall(r"^ +(\w+)/ ", tree, flags=re.MULTILINE))
    assert names - {"cpu", "triton"} == named - {"cards"}


def test_the_navigation_has_every_page():
    configuration = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    navigation = yaml.load(configuration, Configuration)["nav"]
    listed = {next(iter(entry.values())) for entry in navigation}
    assert listed == {*(f"{name}.md" for name in PAGES), "paper-table.ipynb"}


def test_words_of_the_table_are_in_the_glossary():
    words = re.findall(r"^\*\*(.+?)\*\*", PAGES["glossary"], flags=re.MULTILINE)
    assert words == sorted(words, key=str.lower)
    assert {"Activation", "Alone", "Block", "Full", "Mem", "Real tokens", "X"} <= set(words)


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_every_path_that_the_guides_name_is_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    paths = re.findall(r"`((?:[\w.-]+/)*[\w.-]*(?:/|\.(?:py|yaml|json|md|toml|txt)))`", text)
    assert len(paths) > 10
    for path in paths:
        below = any(any((ROOT / package).rglob(path)) for package in ("bench", "implementations"))
        assert (ROOT / path).exists() or below, path


def unclear_beginnings(source):
    """Docstrings that begin with neither the noun nor the verb (CONTRIBUTING, English)."""
    return re.findall(r'^ *r?"""(?:What|Of|How|By|That|Where|Which|Who|When)\b.*', source, flags=re.MULTILINE)


def test_docstrings_begin_with_the_noun_or_the_verb():
    for package in ("bench", "implementations", "peers"):
        for path in (ROOT / package).rglob("*.py"):
            assert not unclear_beginnings(path.read_text(encoding="utf-8")), path


def test_a_docstring_with_an_unclear_beginning_is_found():
    assert unclear_beginnings('def f():\n    """Of two medians, the ratio."""\n')
    assert not unclear_beginnings('def f():\n    """Ratio of two medians."""\n')
