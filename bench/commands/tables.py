"""The options of every command with a table, its formats, and where it goes."""

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.commands.console import (
    Json,
    inputs_of,
    known_format,
    names,
    refuse_inputs,
    refuse_unwritable,
    screen,
    show,
    write_bytes,
)
from bench.errors import UsageError


@dataclass(frozen=True)
class Shown:
    """A user's wishes for a table."""

    form: str
    rows: list[str] | None
    """Models that have rows; all if None."""
    choice: Any
    """A `Choice` of bench.views.tables."""
    out: Path | None
    """A file in place of standard output."""

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing in it that a table could lack."""
        choice = self.choice
        return self.rows is None and (choice.columns, choice.sort) == (None, None) and not choice.rename

    def check(self, table: Any, later: Iterable[str]) -> None:
        """Raise UsageError for a column that a table without figures won't get. later: those it may get."""
        self.choice.check(table, self.form, later)

    def show(self, table: Any, inputs: list[Path] | None = None) -> None:
        """Print a `Tabular`, or write it. Raises UsageError; inputs are files that it must not overwrite."""
        from bench.views.tables.formats import render

        refuse_inputs(self.out, inputs or ())
        if self.out is not None:
            self.write(render(table, self.form, self.choice))
        else:
            show(render(table, self.form, self.choice, screen()), safe=self.form == "terminal")

    def show_measured(self, table: Any) -> None:
        """As `show`, of what took long: a column that nobody can have missed before costs not all others.

        Raises UsageError after all columns are shown.
        """
        from bench.views.tables.choice import Choice

        try:
            self.show(table)
        except UsageError:
            replace(self, choice=Choice(digits=self.choice.digits)).show(table)
            raise

    def write(self, text: str) -> None:
        """Print a text, or write it. Raises UsageError."""
        if self.out is not None:
            write_bytes(self.out, f"{text}\n".encode())
        else:
            show(text)


def prints_table(*out: str, also: Sequence[str] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The command with the options of a table, which it gets as one argument, `shown`.

    out: what its file is named with, -o and --out by default. also: formats of the command's own, which are
    no tables: it writes them itself.
    """

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        own = [one for one in inspect.signature(command).parameters.values() if one.name != "shown"]
        added = _options(out or ("-o", "--out"), also)

        @functools.wraps(command)
        def with_options(**given: Any) -> None:
            shown = _shown(out, also, **{one.name: given.pop(one.name) for one in added})
            refuse_inputs(shown.out, inputs_of(given.values()))
            command(**given, shown=shown)

        del with_options.__wrapped__
        with_options.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
        with_options.__annotations__ = {one.name: one.annotation for one in (*own, *added)}
        return with_options

    return decorated


def _options(out: Sequence[str], also: Sequence[str]) -> list[inspect.Parameter]:
    """As typer reads them."""
    forms = ["terminal", "markdown", "latex", "csv", "html", "json", *also]

    def options(
        format_: Annotated[
            str | None,
            typer.Option(
                "--format",
                help=f"{', '.join(forms[:-1])} or {forms[-1]}; by default as the file ends, else terminal.",
            ),
        ] = None,
        columns: Annotated[
            str | None,
            typer.Option(
                help="Columns, comma-separated, in that order: speed,mem,ms/step; FLOPs are counted "
                "in a run only for tflop/s and mfu."
            ),
        ] = None,
        rows: Annotated[
            str | None,
            typer.Option(help="Rows, comma-separated: models by name or title, else what the rows are of."),
        ] = None,
        rename: Annotated[
            list[str] | None,
            typer.Option(metavar="OLD=NEW", help="A column's or a model's name in the table. Repeatable."),
        ] = None,
        sort: Annotated[str | None, typer.Option(help="The column that orders the rows, best first.")] = None,
        digits: Annotated[
            int | None, typer.Option(min=1, max=15, help="Significant digits of every figure.")
        ] = None,
        no_notes: Annotated[
            bool,
            typer.Option("--no-notes", help="Only the table, and why there is an X."),
        ] = False,
        table_out: Annotated[
            Path | None, typer.Option(*out, help="A file for the table, in place of the terminal.")
        ] = None,
        json: Json = False,
    ) -> None: ...

    return list(inspect.signature(options).parameters.values())


def _shown(
    out: Sequence[str],
    also: Sequence[str],
    format_: str | None,
    columns: str | None,
    rows: str | None,
    rename: list[str] | None,
    sort: str | None,
    digits: int | None,
    no_notes: bool,
    table_out: Path | None,
    json: bool,
) -> Shown:
    from bench.views.tables.choice import Choice

    form = "json" if json else known_format(format_, also, table_out)
    if table_out is not None and table_out.suffix == ".jsonl":
        record = "name the result file with --out" if "-o" in out else "take another ending"
        raise UsageError(f"{(out or ('-o',))[0]} {table_out}: is where the table goes; {record}")
    refuse_unwritable(table_out, "-o")
    choice = Choice(names(columns, "--columns"), sort, _renamed(rename or []), digits, not no_notes)
    shown = Shown(form, names(rows, "--rows"), choice, table_out)
    if form in also and (shown.rows, shown.choice) != (None, Choice()):
        raise UsageError(
            f"--format {form}: is not a table; leave out --columns, --rows and what else is of tables"
        )
    return shown


Retitle = Annotated[
    list[str] | None,
    typer.Option("--rename", metavar="OLD=NEW", help="Another title of a model. Repeatable."),
]


def retitle(pairs: list[str] | None, models: Iterable[str]) -> AbstractContextManager[None]:
    """Within this context models have the titles of --rename. Raises UsageError for one that is not there."""
    from bench.views.tables.choice import unknown
    from bench.views.tables.titles import title_of, titles

    new, found = _renamed(pairs or []), list(dict.fromkeys(models))
    known = {name.lower() for model in found for name in (model, title_of(model))}
    for old in new:
        if old.strip().lower() not in known:
            raise unknown(old, "--rename", found)
    by_word = {old.strip().lower(): word for old, word in new.items()}
    shown = [
        by_word.get(model.lower(), by_word.get(title_of(model).lower(), title_of(model))) for model in found
    ]
    if len(set(shown)) < len(shown):
        twice = next(title for title in shown if shown.count(title) > 1)
        raise UsageError(f"--rename: {twice} would be the name of two models; choose one for each")
    return titles(new)


def _renamed(pairs: list[str]) -> dict[str, str]:
    return dict(map(_halves, pairs))


def _halves(pair: str) -> tuple[str, str]:
    """Both sides of the first `=` outside of brackets, which hold settings. Raises UsageError."""
    depth = 0
    for place, letter in enumerate(pair):
        depth += (letter == "(") - (letter == ")")
        if letter == "=" and depth <= 0 and place and pair[place + 1 :].strip():
            return pair[:place], pair[place + 1 :]
    raise UsageError(f"--rename {pair}: write it as OLD=NEW")
