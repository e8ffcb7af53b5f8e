"""What two revisions can't differ in is not compared."""

import pytest
import yaml

from bench.errors import UsageError
from bench.gate.regress import compared_suite, gate_suite


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "mamba2"}')
    return tmp_path


@pytest.mark.parametrize("name", ["hf:config.json", "hf:./config.json", "mine=hf:config.json"])
def test_both_revisions_would_read_one_file(folder, name):
    words = f"--impl {name}: both revisions would read this one file; name a function that reads it"
    with pytest.raises(UsageError, match=words.replace(".", r"\.")):
        compared_suite("ci", {"implementations": [name], "baseline": name}, "1m")
    # A machine's noise is measured between two runs of the same.
    assert gate_suite("ci", {"implementations": [name], "baseline": name}, "1m").baseline == name


def test_the_suite_is_named_if_the_file_is_its_own(folder):
    (folder / "mine.yaml").write_text(
        yaml.safe_dump(
            {"extends": "ci", "implementations": ["hf:mamba2", "hf:config.json"], "baseline": "hf:mamba2"}
        )
    )
    with pytest.raises(UsageError, match=r"^mine\.yaml: `implementations`: hf:config\.json: both"):
        compared_suite("mine.yaml", {}, "1m")
