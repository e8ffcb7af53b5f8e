"""Below the table: whose code it was, which kernels computed, and slower forms that a library took."""

import msgspec

from bench.records.run import PlugIn
from bench.records.solo import Compilation
from bench.views.tables.formats import render
from bench.views.tables.table import build_table

from ...made_up import results


def below(plug_ins=None, **changes) -> str:
    """The table of one model whose solo pass says so."""
    run = results(("transformer",))
    solos = {name: msgspec.structs.replace(solo, **changes) for name, solo in run.solos.items()}
    header = msgspec.structs.replace(run.header, plug_ins=plug_ins or {})
    table = build_table(msgspec.structs.replace(run, solos=solos, header=header))
    return " ".join(render(table, "terminal").split())


def test_kernels_and_remarks_stand_below():
    text = below(computed_by="reference PyTorch: mamba-ssm is not installed", remarks=["4 layers of its own"])
    assert "Transformer at 4096: computed by reference PyTorch: mamba-ssm is not installed" in text
    assert "Transformer at 4096: 4 layers of its own" in text


def test_a_slower_form_that_a_library_took_is_a_note():
    printed = "loading\nThe fast path is not available because one of (x) is None. Falling back.\nready\n"
    assert "Transformer at 4096: said of itself: The fast path is not available" in below(printed=printed)
    assert "said of itself" not in below(printed="loading\nready\n")


def test_what_torch_gave_up_compiling_is_a_note():
    compiled = Compilation(first_step_seconds=3.0, graph_breaks=0, given_up=2)
    assert "Transformer at 4096: runs op by op in part: torch gave up compiling 2 of" in below(
        compiled=compiled
    )
    assert "op by op" not in below(compiled=msgspec.structs.replace(compiled, given_up=0))


def test_code_stands_below_once_per_package():
    whose = PlugIn(path="m:f", package="mine", version="1.0", commit="a" * 40, dirty=True)
    text = below({"m:f": whose, "metric m:g": whose, "n:f": PlugIn(path="n:f")})
    assert f"code of m:f, metric m:g: mine 1.0, commit {'a' * 12} with changes" in text
    assert "code of n:f: of no installed package" in text


def test_a_row_in_json_has_its_code():
    run = results(("transformer",))
    plug_ins = {"transformer": PlugIn(path="m:f", package="mine", version="1.0")}
    header = msgspec.structs.replace(run.header, plug_ins=plug_ins)
    (row,) = build_table(msgspec.structs.replace(run, header=header)).rows
    assert row.code == plug_ins["transformer"]
