"""Parts that the commands share: exit codes, arguments, streams."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from bench.errors import UsageError

OK, FAILED, BAD_USAGE, INCOMPLETE, INTERRUPTED = 0, 1, 2, 3, 130

WORKLOAD_HELP = (
    "In place of the suite's: a name, tokens:file.npy, text:file.txt, or package.module:WORKLOAD for one of "
    "your own."
)

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Result files.", show_default=False)]
FilesOrFolder = Annotated[
    list[Path],
    typer.Argument(metavar="FILE...", help="Result files, or a collection's folder.", show_default=False),
]
Traceback = Annotated[
    bool, typer.Option("--traceback", help="Also print Python's traceback of whatever failed.")
]
Implementations = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODEL",
        help="Implementations, comma-separated; package.module:build for one of your own; "
        "seqboat(window=64) for a setting. Repeatable.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def one_length(text: str) -> int:
    """The value of a --length that takes one. Raises BadParameter."""
    from bench.text.units import parse_length

    try:
        length = parse_length(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if length < 1:
        raise typer.BadParameter("must be at least 1")
    return length


def prepare_streams() -> None:
    """Let every text out: in UTF-8 for files and pipes, as far as it goes for a terminal of another locale.

    A stream that was closed (`bench run >&-`) becomes one that leads nowhere, so that its number is not
    given to a result file.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
        elif mode == "w" and stream.isatty():
            stream.reconfigure(errors="replace")
        elif mode == "w":
            stream.reconfigure(encoding="utf-8")


@contextlib.contextmanager
def prints_aside() -> Iterator[None]:
    """Send what models and libraries print meanwhile to standard error: the output holds our text only.

    Both ways, by Python's stream and by the process's: a library in C knows only the second.
    """
    sys.stdout.flush()
    ours = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        ctypes.CDLL(None).fflush(None)  # What a library in C has printed may still wait in its buffer.
        os.dup2(ours, 1)
        os.close(ours)


def show(text: str, safe: bool = False) -> None:
    """Print to standard output: only text, whatever a file or a model named something.

    safe: its control sequences are ours, and whatever else it holds is escaped.
    Raises UsageError if it can't be written; a reader that has seen enough (`bench table … | head`) is
    no error.
    """
    try:
        _write(sys.stdout, text, safe)
    except BrokenPipeError:
        return
    except OSError as error:
        raise UsageError(f"the output could not be written ({error.strerror})") from None


def complain(line: str) -> None:
    """One line to standard error."""
    from bench.text.escape import one_line

    show_error(f"bench: {one_line(line)}")


def show_error(text: str) -> None:
    """Print to standard error, if anything can be."""
    with contextlib.suppress(OSError):
        _write(sys.stderr, text)


def _write(stream: TextIO, text: str, safe: bool = False) -> None:
    from bench.text.escape import escape_terminal
    from bench.text.terminal import lead_nowhere

    try:
        print(text if safe else escape_terminal(text), file=stream, flush=True)
    except OSError:
        lead_nowhere(stream)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file of the user's. Raises UsageError if it can't be written."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from None


def names(words: str | Sequence[str] | None, option: str) -> list[str] | None:
    """Words of a comma-separated option, given once or repeated; commas in brackets belong to a word.

    Raises UsageError if it has none.
    """
    from implementations.settings import split

    if words is None:
        return None
    text = words if isinstance(words, str) else ",".join(words)
    found = [name.strip() for name in split(text) if name.strip()]
    if not found:
        raise UsageError(f"{option} {text!r}: name at least one, comma-separated")
    return found


def chosen(impl: Sequence[str] | None) -> dict[str, Any]:
    """A suite's overrides for the implementations of an option, the first one its baseline."""
    found = names(impl, "--impl")
    return {"implementations": found, "baseline": found[0]} if found else {}


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that the user has given."""
    return {name: value for name, value in options.items() if value is not None}


def numbers(text: str | None, kind: Callable[[str], Any], option: str) -> list[Any] | None:
    """The numbers of a comma-separated option. Raises UsageError."""
    try:
        return None if text is None else [kind(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} {text}: give numbers, comma-separated") from None


def rates(text: str | None) -> list[float] | None:
    """Activation rates; none at all for `init`. Raises UsageError."""
    return [] if text == "init" else numbers(text, float, "--activation")


FORMAT_OF = {".md": "markdown", ".tex": "latex", ".csv": "csv", ".html": "html", ".json": "json"}
"""Formats of a table's file by its ending."""
OTHER_ENDINGS = (".pdf", ".png", ".svg", ".xlsx", ".parquet", ".docx")
"""Endings of files that no table is."""


def known_format(name: str | None, also: Sequence[str] = (), out: Path | None = None) -> Any:
    """A table's format, or a command's own; by the file's ending if none is named. Raises UsageError."""
    from bench.views.tables.formats import FORMATS

    if name is None:
        if out is not None and out.suffix.lower() in OTHER_ENDINGS:
            raise UsageError(f"-o {out}: a table ends in {', '.join(FORMAT_OF)} or .txt, or has its --format")
        return "terminal" if out is None else FORMAT_OF.get(out.suffix.lower(), "terminal")
    if name not in (*FORMATS, *also):
        raise UsageError(f"--format {name}: choose {', '.join((*FORMATS, *also))}")
    return name


def screen() -> Any:
    """Standard output, as a table sees it."""
    from bench.text.terminal import takes_marks, width_of
    from bench.views.tables.terminal import Screen

    return Screen(width_of(sys.stdout), takes_marks(sys.stdout))


def as_json(value: Any) -> str:
    """Structs and builtins as indented JSON."""
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value)).decode()


RECORDS = (b'{"type":"header"', b'{"type":"training"')
"""Begins of the files that runs and trainings write."""


def refuse_inputs(out: Path | None, inputs: Iterable[Path], option: str = "--out") -> None:
    """Raise UsageError if an output would overwrite a file that the command reads, or a record."""
    if out is not None and any(_is_same(out, path) for path in inputs):
        raise UsageError(f"{option} {out}: is one of the files that are read; choose another name")
    refuse_record(out)


def refuse_unwritable(out: Path | None, option: str) -> None:
    """Raise UsageError for an output that is a folder, as an empty name is, or that lies in none."""
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        reason = "it is a folder" if out.is_dir() else "no such folder"
        raise UsageError(f"{option} {out}: cannot be written ({reason})")


def refuse_existing(out: Path | None) -> None:
    """Raise UsageError if something has the name of a result file that no command continues."""
    if out is not None and out.exists():
        raise UsageError(f"--out {out}: exists already; choose another name")


def inputs_of(arguments: Iterable[object]) -> Iterator[Path]:
    """Files that a command's arguments name: paths, suites, checkpoints, files of workloads and of models."""
    for value in arguments:
        if isinstance(value, list | tuple):
            yield from inputs_of(value)
        elif isinstance(value, Path):
            yield value
        elif isinstance(value, str):
            yield from _files_named(value)


def _files_named(text: str) -> Iterator[Path]:
    """Files of a name, or of several between commas."""
    from bench.suites import files
    from implementations import settings
    from implementations.by_configuration import file_of

    scheme, _, rest = text.partition(":")
    if scheme in ("tokens", "text") and rest:
        yield Path(os.path.expanduser(rest.partition("(vocabulary=")[0]))
    for name in map(str.strip, settings.split(text)):
        if name.endswith(files.ENDINGS):
            yield from files.files_of(Path(name))
        elif name.endswith(".safetensors"):
            yield Path(name)
        elif (file := file_of(name)) is not None:
            yield file


def refuse_record(out: Path | None) -> None:
    """Raise UsageError if an output would replace a result file or a training's, or a program."""
    if out is not None and out.is_file() and out.suffix == ".py":
        raise UsageError(f"{out}: is a program; choose another name")
    if out is not None and out.is_file() and _begin_of(out).startswith(RECORDS):
        raise UsageError(f"{out}: is a result file; choose another name")


def _begin_of(path: Path) -> bytes:
    """As much of a file as tells a record; nothing of one that can't be read."""
    try:
        with path.open("rb") as file:
            return file.read(max(map(len, RECORDS)))
    except OSError:
        return b""


def _is_same(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file, by whatever names and links."""
    return one.resolve() == other.resolve() or (one.exists() and other.exists() and one.samefile(other))


def print_tracebacks(runs: Iterable[Any]) -> None:
    """Print the tracebacks of the cases that failed, with what their models printed."""
    for run in runs:
        for solo in run.solos.values():
            failed = run.lost.get(solo.case.id) or (solo if solo.status != "ok" else None)
            for text in filter(None, (failed.printed, failed.traceback) if failed else ()):
                show_error(f"{solo.case.implementation} at {solo.case.length}:\n{text.rstrip()}")


def read_all(files: list[Path]) -> list[Any]:
    """Every run of some result files; a file of several kinds of device holds one for each."""
    from bench.records.reading import read_kinds

    return [run for path in files for run in read_kinds(path)]
