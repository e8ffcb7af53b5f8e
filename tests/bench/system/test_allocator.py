"""Workers keep what they free, until they are told to give it back."""

import os
import platform
import subprocess
import sys

import pytest

from bench.system import allocator

BLOCK, BLOCKS = 1 << 20, 128
TAKEN = BLOCK * BLOCKS

SCRIPT = f"""
import psutil
from bench.system import allocator

def resident():
    return psutil.Process().memory_info().rss

def freed(number):
    blocks = [bytearray(b"x") * {BLOCK} for _ in range(number)]
    pin, full = bytearray(b"x") * {BLOCK}, resident()
    del blocks
    return full - resident()

kept = freed({BLOCKS})
before = resident()
allocator.give_back()
print(kept, before - resident(), freed(2 * {BLOCKS}))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries have other settings")
def test_what_is_freed_is_kept_until_it_is_to_be_given_back():
    unset = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    child = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=unset | {"GLIBC_TUNABLES": allocator.KEEP_FREED_MEMORY},
        capture_output=True,
        text=True,
        check=True,
    )
    # What was free stays the heap's own: twice as much later does not fit into it.
    by_freeing, by_giving_back, later = map(int, child.stdout.split())
    assert by_freeing < TAKEN / 4
    assert min(by_giving_back, later) > TAKEN * 3 / 4
