"""A home that is not there is a line, whoever asks for it."""

from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.gate import installed
from implementations import folders, registry
from implementations.errors import RegistryError


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without HOME, of a user who is in no list of users, as a container may have."""
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folders.expanded("~/a.txt") == tmp_path / "a.txt"
    assert folders.expanded("a/~.txt") == Path("a/~.txt")


@pytest.mark.parametrize("user", ["nobody-of-that-name", "\0"])
def test_the_home_of_nobody_has_no_configuration(user: str) -> None:
    with pytest.raises(RegistryError, match=r"config.json: "):
        registry.find(f"hf:~{user}/config.json")


def test_without_a_home_names_stay_as_they_are(homeless: None) -> None:
    assert folders.expanded("~/a.txt") == Path("~/a.txt")
    with pytest.raises(RegistryError, match="No such file"):
        registry.find("hf:~/config.json")


def test_without_a_home_environments_need_a_folder(
    homeless: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="set HOME or XDG_CACHE_HOME"):
        installed.cache_folder()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert installed.cache_folder() == tmp_path / "seqboat-bench" / "revisions"
