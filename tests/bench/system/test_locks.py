"""Locks between processes."""

import errno
import fcntl

import pytest

from bench.system.locks import lock, locked


def test_a_folder_has_one_lock(tmp_path):
    folder = tmp_path / "new"
    with locked(folder, wait=False), pytest.raises(BlockingIOError), locked(folder, wait=False):
        pytest.fail("it is locked")
    with locked(tmp_path / "new", wait=True):
        pass


@pytest.mark.parametrize("wait", [False, True])
def test_a_file_system_without_locks_is_no_error(tmp_path, monkeypatch, wait):
    def fails(*words):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fails)
    with (tmp_path / "file").open("w") as file:
        lock(file, wait=wait)
