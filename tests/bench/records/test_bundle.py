"""Bundles: what goes in comes out, and whatever is wrong with one is a line."""

import hashlib
import json
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.errors import ResultError, UsageError
from bench.measure import sharing
from bench.records import bundle
from bench.records.run import PlugIn

from ..made_up import CPU, results, write
from ..repositories import commit, git

MEMBERS = {"record.jsonl", "suite.yaml", "packages.txt", "data.json"}


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = results(("transformer", "s4"))
    solos = {name: msgspec.structs.replace(solo, batch_digest="0123") for name, solo in run.solos.items()}
    return write(msgspec.structs.replace(run, solos=solos), tmp_path)


@pytest.fixture
def whole(file, tmp_path) -> Path:
    """A bundle as `bench bundle` makes it."""
    out = tmp_path / "run.zip"
    ran = CliRunner().invoke(app, ["bundle", str(file), "-o", str(out)])
    assert ran.exit_code == 0, ran.exception
    return out


def test_what_goes_in_comes_out(file, whole):
    found = bundle.read(whole)
    assert found.manifest.members.keys() == MEMBERS
    assert found.results.samples == results(("transformer", "s4")).samples
    assert zipfile.ZipFile(whole).read("record.jsonl") == file.read_bytes()
    assert any(line.startswith("numpy==") for line in found.packages)
    assert found.data.batches.keys() == found.results.solos.keys()
    assert sharing.suite_file(found).keys["implementations"] == ["transformer", "s4"]


def test_the_suite_in_it_can_be_run(whole, tmp_path):
    from bench.suites import reading

    zipfile.ZipFile(whole).extract("suite.yaml", tmp_path)
    assert reading.load(str(tmp_path / "suite.yaml")) == bundle.read(whole).results.header.suite
    made = results(("transformer",), lengths=(256,), tokens=1024)
    (tmp_path / "suite.yaml").write_bytes(sharing.as_yaml(made.header.suite))
    assert reading.load(str(tmp_path / "suite.yaml")).batches("cpu", 256) == (4,)


def test_what_has_changed_since_the_run_is_told(file, tmp_path):
    run = results(
        ("transformer",), environment=msgspec.structs.replace(CPU, torch="1.0", libraries={"numpy": "0.1"})
    )
    header = msgspec.structs.replace(run.header, sources={"transformer": "0123", "bench": "4567"})
    path = write(msgspec.structs.replace(run, header=header, path="old.jsonl"), tmp_path)
    ran = CliRunner().invoke(app, ["bundle", str(path), "-o", str(tmp_path / "old.zip")])
    since = bundle.read(tmp_path / "old.zip").manifest.since
    assert any(line.startswith("torch was 1.0, and is ") for line in since)
    assert any(line.startswith("numpy was 0.1, and is ") for line in since)
    assert any(line.startswith("this harness has changed") for line in since)
    assert any(line.startswith("transformer has changed") for line in since)
    assert "since the run, torch was 1.0" in ran.stderr
    assert "old.zip: record.jsonl, suite.yaml, packages.txt, data.json" in ran.stdout


def test_the_data_of_a_file_has_its_checksum(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.txt").write_text("to be or not to be " * 500)
    path = write(results(("transformer",), lengths=(256,), workload="text:book.txt"), tmp_path)
    sharing.write_bundle(path, tmp_path / "run.zip")
    assert bundle.read(tmp_path / "run.zip").data.files["book.txt"].startswith("sha256 ")
    (tmp_path / "book.txt").unlink()
    manifest = sharing.write_bundle(path, tmp_path / "run.zip")
    assert any("the data is not there any more" in line for line in manifest.since)


def test_changes_of_a_dirty_tree_can_be_applied(tmp_path, monkeypatch):
    tree = tmp_path / "tree"
    tree.mkdir()
    git(tree, "init", "--quiet")
    head = commit(tree, **{"dirty_model.py": "x = 1\n", "old.bin": "a"})
    monkeypatch.chdir(tree)
    (tree / "dirty_model.py").write_text("x = 2\n")
    (tree / "old.bin").write_bytes(bytes(range(256)))
    (tree / "new.py").write_text("y = 'ä'\nno newline")
    (tree / "empty.py").touch()
    (tree / "secrets.env").write_text("KEY=1")
    run = results(("dirty_model:build",))
    whose = PlugIn(path="dirty_model:build", commit=head, dirty=True)
    header = msgspec.structs.replace(run.header, plug_ins={"dirty_model:build": whose})
    path = write(msgspec.structs.replace(run, header=header), tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tree)])
    manifest = sharing.write_bundle(path, tmp_path / "run.zip")
    (changes,) = manifest.changes
    assert (changes.of, changes.commit, changes.left_out) == (["dirty_model:build"], head, 1)
    diff = zipfile.ZipFile(tmp_path / "run.zip").read(changes.member)
    assert b"KEY" not in diff
    clean = tmp_path / "clean"
    git(tree, "worktree", "add", "--quiet", str(clean), head)
    subprocess.run(["git", "-C", str(clean), "apply", "-"], input=diff, check=True)
    for name in ("dirty_model.py", "old.bin", "new.py", "empty.py"):
        assert (clean / name).read_bytes() == (tree / name).read_bytes()


def remade(whole: Path, change=None, **members: bytes | None) -> Path:
    """The bundle with some members in place of its own, or without those that are None; sums fit."""
    content = {info.filename: zipfile.ZipFile(whole).read(info) for info in zipfile.ZipFile(whole).infolist()}
    content |= {name: part for name, part in members.items() if part is not None}
    content = {name: part for name, part in content.items() if members.get(name, b"") is not None}
    if "manifest.json" in content and "manifest.json" not in members:
        manifest = json.loads(content["manifest.json"])
        manifest["members"] = {
            name: {"sha256": hashlib.sha256(part).hexdigest(), "bytes": len(part)}
            for name, part in content.items()
            if name != "manifest.json"
        }
        content["manifest.json"] = json.dumps(manifest).encode()
    out = whole.with_name("changed.zip")
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in content.items():
            archive.writestr(name, part)
        if change is not None:
            change(archive)
    return out


def refused(path: Path) -> str:
    with pytest.raises((UsageError, ResultError)) as caught:
        bundle.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    ran = CliRunner().invoke(app, ["reproduce", str(path)])
    assert str(ran.exception) == str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "name", ["../../etc/cron.d/x", "/etc/passwd", "..\\x", "record.jsonl/", "changes-10.diff"]
)
def test_a_member_that_no_bundle_has_is_refused(whole, name):
    assert "which is not part of a bundle" in refused(remade(whole, **{name: b"x"}))


@pytest.mark.parametrize("name", [*sorted(MEMBERS), "manifest.json"])
def test_a_missing_member_is_named(whole, name):
    assert f"has no {name}" in refused(remade(whole, **{name: None}))


def test_a_huge_member_is_refused_before_it_is_unpacked(whole, monkeypatch):
    monkeypatch.setattr(bundle, "MOST_BYTES", {**bundle.MOST_BYTES, "packages.txt": 1 << 20})
    assert "packages.txt is larger than 1 MiB" in refused(remade(whole, **{"packages.txt": bytes(2 << 20)}))


def test_a_size_that_is_a_lie_is_found(whole, monkeypatch):
    """The directory says 10 bytes, what is packed are two MiB."""
    monkeypatch.setattr(bundle, "MOST_BYTES", {**bundle.MOST_BYTES, "packages.txt": 1 << 20})
    path = remade(whole, **{"packages.txt": bytes(2 << 20)})
    content = path.read_bytes()
    path.write_bytes(content.replace((2 << 20).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    told = refused(path)
    assert (
        "is not a whole zip file" in told or "larger than" in told or "is not what the manifest says" in told
    )


def test_a_changed_member_is_found(whole):
    manifest = zipfile.ZipFile(whole).read("manifest.json")
    path = remade(whole, **{"packages.txt": b"torch==99", "manifest.json": manifest})
    assert "packages.txt is not what the manifest says" in refused(path)


def test_a_member_that_stands_twice_is_refused(whole):
    with pytest.warns(UserWarning, match="Duplicate"):
        path = remade(whole, lambda archive: archive.writestr("suite.yaml", "x"))
    assert "holds suite.yaml twice" in refused(path)


def test_a_link_is_refused(whole):
    def link(archive: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo("changes-0.diff")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")

    assert "changes-0.diff is encrypted, a link" in refused(remade(whole, link))


def test_many_members_are_refused(whole):
    def many(archive: zipfile.ZipFile) -> None:
        for number in range(40):
            archive.writestr(f"changes-{number}.diff", "")

    assert "has 45 members" in refused(remade(whole, many))


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"manifest.json": b"{}"}, "manifest.json is not as a bundle has it"),
        ({"manifest.json": b"[" * 50_000}, "manifest.json is not as a bundle has it"),
        ({"data.json": b"[]"}, "data.json is not as a bundle has it"),
        ({"record.jsonl": b"{}\n"}, "line 1 is not a record of a result file"),
        ({"record.jsonl": b""}, "does not begin with a header"),
    ],
)
def test_a_member_that_cannot_be_read_is_named(whole, members, words):
    assert words in refused(remade(whole, **members))


def test_a_bundle_of_another_schema_is_named(whole):
    manifest = json.loads(zipfile.ZipFile(whole).read("manifest.json")) | {"schema": 9}
    assert "is a bundle of schema 9" in refused(
        remade(whole, **{"manifest.json": json.dumps(manifest).encode()})
    )


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no zip at all"])
def test_what_is_no_zip_is_named(tmp_path, content):
    path = tmp_path / "x.zip"
    path.write_bytes(content)
    assert "is not a whole zip file" in refused(path)


def test_a_bundle_cut_off_anywhere_is_named(whole, tmp_path):
    content = whole.read_bytes()
    path = tmp_path / "cut.zip"
    for size in range(0, len(content) - 1, max(1, len(content) // 25)):
        path.write_bytes(content[:size])
        with pytest.raises(UsageError, match=r"cut\.zip: "):
            bundle.read(path)


def test_a_bundle_never_takes_the_place_of_its_record(file):
    ran = CliRunner().invoke(app, ["bundle", str(file), "-o", str(file)])
    assert "is one of the files that are read" in str(ran.exception)


def test_a_gates_raw_data_is_not_bundled(tmp_path):
    run = results(("transformer",))
    header = msgspec.structs.replace(run.header, revisions={"base": "a", "head": "b"})
    path = write(msgspec.structs.replace(run, header=header), tmp_path)
    with pytest.raises(ResultError, match="a gate's raw data"):
        sharing.write_bundle(path, tmp_path / "run.zip")


def test_what_nobody_could_read_is_not_written(file, tmp_path, monkeypatch):
    out = tmp_path / "run.zip"
    with monkeypatch.context() as patch:
        patch.setitem(bundle.MOST_BYTES, bundle.RECORD, 100)
        with pytest.raises(UsageError, match=r"run\.zip: record\.jsonl would be larger than 0 MiB"):
            sharing.write_bundle(file, out)
    many = {f"changes-{number}.diff": b"x" for number in range(11)}
    monkeypatch.setattr(sharing, "_changes", lambda results: ([], many))
    with pytest.raises(UsageError, match=r"run\.zip: a bundle has the changes of ten repositories at most"):
        sharing.write_bundle(file, out)
    assert not out.exists()
