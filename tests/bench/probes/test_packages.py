"""Whose code a plug-in is: package, version, commit; nothing of it is imported."""

import sys
from importlib import metadata

import pytest

from bench.probes import packages
from bench.views.tables.plugin_notes import words

from ..repositories import commit, git


@pytest.fixture
def mine(tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    folder.mkdir()
    git(folder, "init", "--quiet")
    monkeypatch.chdir(folder)
    return folder


def distribution(folder, name, version, direct_url=None, files=()):
    """An installed distribution's metadata in a folder of packages."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    if direct_url is not None:
        (info / "direct_url.json").write_text(direct_url)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A folder of packages on the path."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])
    packages._by_module.cache_clear()
    yield folder
    packages._by_module.cache_clear()


def test_a_file_in_a_repository_has_its_commit(mine):
    head = commit(mine, **{"model_here.py": "raise SystemExit"})
    found = packages.plug_in("model_here:build")
    assert (found.package, found.version, found.commit, found.dirty) == (None, None, head, False)
    assert words(found) == f"of no installed package, commit {head[:12]}"
    (mine / "model_here.py").write_text("changed")
    found = packages.plug_in("model_here:build")
    assert found.dirty is True
    assert words(found).endswith(f"{head[:12]} with changes")


def test_an_installed_package_has_its_version(installed):
    (installed / "sleek").mkdir()
    (installed / "sleek" / "__init__.py").write_text("raise SystemExit")
    distribution(installed, "sleek-models", "1.2", files=["sleek/__init__.py"])
    found = packages.plug_in("sleek.conv:build")
    assert words(found) == "sleek-models 1.2"
    assert "sleek-models==1.2" in packages.installed()


def test_a_package_that_was_installed_from_a_repository_has_its_commit(installed):
    (installed / "swift.py").write_text("")
    url = '{"url": "https://example.org/swift.git", "vcs_info": {"vcs": "git", "commit_id": "abc123"}}'
    distribution(installed, "swift", "3", url, files=["swift.py"])
    found = packages.plug_in("swift:build")
    assert (words(found), found.dirty) == ("swift 3, commit abc123", False)


def test_an_editable_package_has_both(installed, mine):
    head = commit(mine, **{"src/lively.py": ""})
    url = f'{{"url": "file://{mine}", "dir_info": {{"editable": true}}}}'
    distribution(installed, "lively", "0.1", url)
    sys.path.append(str(mine / "src"))
    assert words(packages.plug_in("lively:build")) == f"lively 0.1, commit {head[:12]}"


def test_an_adapter_is_of_the_package_that_it_adapts():
    assert packages.plug_in("peers.huggingface:build", "numpy").version == metadata.version("numpy")


def test_what_is_not_there_has_nothing():
    assert words(packages.plug_in("nothing_of_that_name:build")) == "of no installed package"
