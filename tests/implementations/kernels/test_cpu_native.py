"""The C kernels are built once, where they can be; elsewhere torch's operators compute the same."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from implementations import registry
from implementations.kernels.cpu.ema import fused_ema
from implementations.kernels.cpu.native import calls, library
from implementations.kernels.cpu.native.ema import ema_backward, ema_forward, silu
from implementations.ops.ema import DampedEMA
from implementations.task import Task

TINY = "void use_pool(void *a, void *b, void *c) { (void)a; (void)b; (void)c; }\n"


@pytest.fixture
def afresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A process that has loaded nothing, with a cache folder of its own, which is given."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(library.SETTING, raising=False)
    caches = library._loaded, library._fingerprint, library.compiler_version
    for cache in caches:
        cache.cache_clear()
    yield tmp_path / "cache"
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of sources that compile at once."""
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "kernels.c").write_text(TINY)
    monkeypatch.setattr(library, "SOURCES", tmp_path / "sources")
    return tmp_path / "sources"


def average() -> Tensor:
    torch.manual_seed(0)
    return fused_ema(DampedEMA(5, 3), torch.randn(1, 20, 5), activated=True)


def script(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def refused(reason: str) -> None:
    """No library, for this reason, and the same numbers by torch's operators."""
    assert library.library() is None
    assert reason in library.computed_by(called=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calls, "call", None)
        average()


def test_without_a_compiler(afresh: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tiny))
    refused("no C compiler")
    assert "install gcc or clang" in (library.cannot_build() or "")


def test_a_compiler_that_fails(afresh: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = (
        'case "$1" in --version) echo cc 1.0;; *) echo "kernels.c:1: error: no vectors" >&2; exit 1;; esac'
    )
    monkeypatch.setenv("CC", script(tiny, "broken", answer))
    refused("error: no vectors")
    assert not list(afresh.rglob("*.so"))


def test_a_compiler_that_is_not_there(afresh: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", str(tiny / "nowhere"))
    refused("can't be run")


def test_a_cache_that_cannot_be_written(afresh: Path, tiny: Path) -> None:
    afresh.parent.joinpath("cache").write_text("a file where the folder should be")
    refused("Not a directory")


def test_without_a_home(afresh: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container, whose user is in no list of users."""
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    refused("no home folder: set HOME or XDG_CACHE_HOME")
    assert "set HOME" in (library.cannot_build() or "")


def test_an_openmp_that_was_replaced_under_the_process(
    afresh: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system calls its file deleted, and it can't be loaded again: the kernels compute on one thread."""
    maps = "7f00-7f01 r-xp 00000000 08:01 99  /usr/lib/libgomp.so.1 (deleted)\n"
    read = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda path, **how: maps if path.name == "maps" else read(path, **how)
    )
    assert library._pool() is None
    assert library.library() is not None


def test_turned_off(afresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(library.SETTING, "off")
    refused("SEQBOAT_NATIVE=off")


def test_what_was_built_is_found_again(afresh: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = library.build()
    monkeypatch.setattr(library, "_compile", None)
    assert library.build() == path


def test_other_sources_are_built_anew(afresh: Path, tiny: Path) -> None:
    path = library.build()
    (tiny / "kernels.c").write_text(TINY + "int other;\n")
    library._fingerprint.cache_clear()
    assert library.build() != path


def test_processes_that_build_at_once_find_a_whole_library(afresh: Path, tiny: Path) -> None:
    """Each can load what it finds, and one file is left."""
    words = (
        "import ctypes, pathlib, sys; from implementations.kernels.cpu.native import library;"
        f"library.SOURCES = pathlib.Path({str(tiny)!r}); ctypes.CDLL(str(library.build())).use_pool"
    )
    command = [sys.executable, "-c", words]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(4)]
    for process in started:
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
    assert len(list(afresh.rglob("*"))) == len([*afresh.rglob("native"), *afresh.rglob("seqboat-bench")]) + 1


def test_while_the_compiler_writes_there_is_no_library(
    afresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiler that is half done looks for a library under its final name, which others would load."""
    compiler = tmp_path / "half-done-cc"
    compiler.write_text(
        "#!/bin/sh\n"
        'while [ $# -gt 1 ]; do [ "$1" = -o ] && out=$2; shift; done\n'
        'if [ -n "$out" ]; then echo half > "$out"; ! ls "${out%/*}"/kernels-*.so; fi\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    assert library.build().read_text() == "half\n"


@pytest.mark.skipif(library.library() is None, reason="no compiler")
def test_a_forked_process_computes(tmp_path: Path) -> None:
    """As a worker does, whose template has built the library and loaded torch."""
    assert library.cannot_build() is None
    child = os.fork()
    if child == 0:
        torch.set_num_threads(2)
        os._exit(0 if average().isfinite().all() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(library.library() is None, reason="no compiler")
def test_the_same_on_any_number_of_threads() -> None:
    one, before = average(), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        two = average()
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(one, two, rtol=0, atol=0)


@pytest.mark.skipif(library.library() is None, reason="no compiler")
def test_every_kernel_computes_in_the_fused_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else their tests would hold torch's operators against themselves."""
    monkeypatch.setenv(library.SETTING, "on")
    calls._called.clear()
    task = Task(name="text", length=64, classes=2, vocabulary=11)
    for name, changes in (
        ("seqboat-fused", {}),
        ("seqboat-fused", {"prenorm": True}),
        ("mega-chunk-fused", {}),
    ):
        found = registry.find(name)
        model = found.load()(task, found.hyperparameters("text", "small") | changes)
        model(torch.ones(1, 64, dtype=torch.long)).sum().backward()
    kernels = "".join(path.read_text() for path in library.SOURCES.glob("*.c"))
    assert calls._called == set(re.findall(r"(?m)^void NAME\((\w+)\)", kernels))


@pytest.mark.skipif(library.library() is None, reason="no compiler")
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 3e-7), (torch.float64, 1e-14)])
def test_silu(dtype: torch.dtype, bound: float) -> None:
    x = torch.linspace(-85.0, 100.0, 20_001, dtype=dtype)
    y, exact = silu(x, 0.0, 0), torch.nn.functional.silu(x.double())
    assert ((y - exact).abs() <= bound * exact.abs().clamp(min=1e-30)).all()
    assert silu(torch.full((3,), torch.nan, dtype=dtype), 0.0, 0).isnan().all()


@pytest.mark.skipif(library.library() is None, reason="no compiler")
def test_dropout_drops_its_share_anywhere_and_independently() -> None:
    """Shares of rows, columns and of neighbours that are both dropped, of a million elements."""
    x = torch.ones(1000, 1000)
    for seed in (1, 2**40):
        dropped = (silu(x, 0.1, seed) == 0.0).double()
        assert abs(dropped.mean() - 0.1) < 1.5e-3
        for dimension in (0, 1):
            assert (dropped.mean(dim=dimension) - 0.1).abs().max() < 0.055
        for shift in (1, 7, 1000):
            flat = dropped.flatten()
            assert abs((flat[shift:] * flat[:-shift]).mean() - 0.01) < 6e-4
    assert (silu(x, 1.0, 3) == 0.0).all()


@pytest.mark.skipif(library.library() is None, reason="no compiler")
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 2e-6), (torch.float64, 1e-13)])
def test_channels_and_steps_that_fill_vectors_and_some_that_do_not(
    dtype: torch.dtype, bound: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    ema = DampedEMA(37, 9).to(dtype)
    padding = torch.rand(3, 150) < 0.1
    x, grad = torch.randn(2, 3, 150, 37, dtype=dtype)
    found = {}
    for setting in ("on", "off"):
        monkeypatch.setenv(library.SETTING, setting)
        calls._called.clear()
        leaves = [x.clone().requires_grad_(), *ema.parameters()]
        y = fused_ema(ema, leaves[0], padding, activated=True)
        found[setting] = [y, *torch.autograd.grad(y, leaves, grad)]
        assert bool(calls._called) == (setting == "on")
    for ours, theirs in zip(found["on"], found["off"], strict=True):
        assert (ours - theirs).norm() <= bound * theirs.norm()


@pytest.mark.parametrize(("loop", "operator"), [("scan", "forward"), ("adjoint", "backward")])
def test_the_flops_of_an_average_are_those_of_its_innermost_loop(loop: str, operator: str) -> None:
    source = (library.SOURCES / "ema.c").read_text().partition(f"static void NAME({loop})(")[2]
    body = re.search(r"\{([^{}]*sum \+= [^{}]*)\}", source)
    assert body
    x, average, weight = (torch.empty(*sizes, device="meta") for sizes in ((5, 3, 20), (5, 3, 20), (10, 7)))
    how = (None, weight, weight, weight[:5, 0])
    with FlopCounterMode(display=False) as counter:
        if operator == "forward":
            ema_forward(x, *how, True, 0.0, 0)
        else:
            ema_backward(x, average, x, *how, x, False, 0.0, 0)
    assert counter.get_total_flops() == len(re.findall(r"[+*]", body[1])) * weight.numel() * 3 * 20
