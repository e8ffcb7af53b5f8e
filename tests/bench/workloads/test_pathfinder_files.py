"""LRA's own Pathfinder pictures, from a small folder made as theirs is."""

from pathlib import Path

import numpy as np
import pytest

from bench import workloads
from bench.errors import UsageError
from bench.workloads import grey, pathfinder_files
from bench.workloads.sheet import describe

pytest.importorskip("PIL")

PICTURES = 12


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Picture n is of one grey, 20·n, and labelled n mod 2; two tables list them."""
    monkeypatch.setenv("SEQBOAT_BENCH_LRA", str(tmp_path))
    pathfinder_files.listed.cache_clear()
    folder = tmp_path / "lra_release" / "pathfinder32" / "curv_contour_length_14"
    (folder / "metadata").mkdir(parents=True)
    for table in (0, 1):
        lines = []
        (folder / "imgs" / str(table)).mkdir(parents=True)
        for number in range(table, PICTURES, 2):
            pixels = np.full((32, 32), 20 * number, dtype=np.uint8)
            (folder / "imgs" / str(table) / f"sample_{number}.png").write_bytes(grey.png(pixels))
            lines.append(f"imgs/{table} sample_{number}.png {number} {number % 2} 1.8 6 2.0 5 1.5 4 2 0.5 14")
        (folder / "metadata" / f"{table}.npy").write_text("\n".join(lines) + "\n")
    return folder


def test_batches_are_of_the_users_pictures(release: Path) -> None:
    batch = workloads.load("pathfinder").batch(1024, 60, "full", seed=0)
    greys = np.round((batch.inputs[:, 0] + 1) * 127.5 / 20).astype(int)
    assert set(greys) == set(range(PICTURES))
    assert (batch.targets == greys % 2).all()
    assert (batch.inputs == batch.inputs[:, :1]).all()
    again = workloads.load("pathfinder").batch(1024, 60, "full", seed=0)
    assert np.array_equal(batch.inputs, again.inputs)


def test_the_sheet_names_them(release: Path) -> None:
    sheet = describe("pathfinder", sequences=4)
    assert sheet.data == "LRA's, 12 pictures of 32 × 32"
    assert [(source.used, source.kind) for source in sheet.sources] == [(True, "real"), (False, "generated")]
    assert sheet.sources[0].location == str(release)


def test_sizes_that_are_not_there_are_generated(release: Path) -> None:
    assert workloads.load("path-x").data() == "generated, in the published geometry"
    assert np.unique(workloads.load("pathfinder").batch(256, 1, "full", seed=0).inputs).size > 2


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("metadata/0.npy", b"imgs/0 sample_0.png 0 7\n", "0.npy, line 1: does not list a picture"),
        ("metadata/0.npy", b"\x93NUMPY\x01\x00", "is not a table of pictures"),
        ("imgs/0/sample_0.png", b"", "sample_0.png: is not a picture"),
        (
            "imgs/0/sample_0.png",
            grey.png(np.zeros((16, 32), dtype=np.uint8)),
            "has 32 × 16 pixels, not 32 × 32",
        ),
    ],
)
def test_what_is_wrong_is_named(release: Path, file: str, content: bytes, words: str) -> None:
    (release / file).write_bytes(content)
    with pytest.raises(UsageError, match=words):
        workloads.load("pathfinder").batch(1024, 60, "full", seed=0)


def test_a_missing_picture_is_named(release: Path) -> None:
    (release / "imgs/1/sample_3.png").unlink()
    with pytest.raises(UsageError, match=r"sample_3\.png"):
        workloads.load("pathfinder").batch(1024, 60, "full", seed=0)


def test_a_folder_without_tables_is_no_data_set(release: Path) -> None:
    for table in (release / "metadata").iterdir():
        table.unlink()
    with pytest.raises(UsageError, match="lists no pictures"):
        workloads.load("pathfinder").batch(1024, 1, "full", seed=0)


def test_enwik8_must_be_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.workloads import lm

    archive = tmp_path / "enwik8.zip"
    archive.write_bytes(b"PK\3\4" + bytes(4000))
    monkeypatch.setenv(lm.FILE_VARIABLE, str(archive))
    lm.source.cache_clear()
    try:
        with pytest.raises(UsageError, match="unpack it"):
            workloads.load("lm").batch(16, 1, "full", seed=0)
    finally:
        lm.source.cache_clear()
