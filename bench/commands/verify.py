"""`bench verify`: implementations against vectors recorded from official code."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.console import FAILED, OK, Json, as_json, names, prints_aside, show
from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.correctness.official import GoldenCheck

app = typer.Typer()


@app.command()
def verify(
    golden: Annotated[Path, typer.Option(help="Folder of golden vectors.")] = Path("tests/golden"),
    impl: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Systems or variants, comma-separated. Repeatable."),
    ] = None,
    json: Json = False,
) -> None:
    """Check implementations against vectors recorded from official code."""
    checks = []
    found = _checks(golden, names(impl, "--impl"))
    while (check := _next(found)) is not None:
        checks.append(check)
        if not json:
            show(_line(check))
    show(as_json(checks) if json else _summary(checks))
    raise typer.Exit(FAILED if any(check.counts_as_failure for check in checks) else OK)


def _next(found: "Iterator[GoldenCheck]") -> "GoldenCheck | None":
    with prints_aside():
        return next(found, None)


def _checks(golden: Path, names: list[str] | None) -> "Iterator[GoldenCheck]":
    """Names are folders of vectors, or implementations: a fused one is held against its system's vectors."""
    from bench.correctness import official
    from bench.correctness.golden import systems
    from implementations import registry

    if names is None:
        yield from official.verify(golden)
        return
    folders = systems(golden)
    for name in names:
        if name in folders:
            yield from official.verify(golden, [name])
        else:
            implementation = registry.find(name)
            if implementation.setting:
                raise UsageError(f"{name}: vectors are of the official sizes; name {implementation.unset}")
            if not implementation.golden:
                raise UsageError(f"{name}: there are no vectors of it by official code")
            yield from official.verify(golden, [implementation.golden], implementation.variant)


def _line(check: "GoldenCheck") -> str:
    error = "" if check.max_error is None else f"  {check.max_error:.1e} in {check.worst_tensor}"
    detail = f"  {check.detail}" if check.status != "passed" else ""
    return f"{check.status:<11} {check.system}/{check.case}{error}{detail}"


def _summary(checks: "list[GoldenCheck]") -> str:
    passed = sum(check.status == "passed" for check in checks)
    failed = sum(check.counts_as_failure for check in checks)
    optional = len(checks) - passed - failed
    return f"{passed} passed, {failed} failed, {optional} optional and unsupported"
