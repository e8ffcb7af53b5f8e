"""`bench …`: parses, calls and prints. Torch is loaded only by the commands that compute."""

import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from bench.commands import (
    bisect,
    bundle,
    compare,
    data,
    doctor,
    export,
    history,
    plan,
    plot,
    profile,
    regress,
    report,
    reproduce,
    run,
    site,
    store,
    table,
    train,
    verify,
)  # fmt: skip
from bench.commands import list as list_
from bench.commands.console import BAD_USAGE, INTERRUPTED, complain, prepare_streams, show
from bench.errors import UsageError
from bench.version import __version__
from implementations.errors import RegistryError

_UNCUT = 1000
"""Characters of a command's summary at most: more than any has, so that none ends in dots."""


class Commands(TyperGroup):
    """All commands, with whole summaries; Ctrl-C ends any with a line, where typer would say nothing."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        commands = [self.get_command(ctx, name) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(one.name, one.get_short_help_str(_UNCUT)) for one in commands if one])

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            complain("interrupted")
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    # Plain help: rich would take longer to import than everything else together.
    rich_markup_mode=None,
    help="How fast, and how much memory, is this sequence model really?",
)

for command in (
    *(run, plan, profile, train, list_, data, table, plot, report, verify),
    *(regress, bisect, doctor, compare, bundle, reproduce, export, store, history, site),
):
    app.add_typer(command.app)


def main() -> None:
    """The console script: whatever is wrong with input or machine is one line and exit code 2."""
    prepare_streams()
    try:
        app()
    except (UsageError, RegistryError) as error:
        if "--traceback" in sys.argv:
            traceback.print_exception(error)
        complain(str(error))
        sys.exit(BAD_USAGE)
    except OSError as error:
        reason = error.strerror or str(error)
        complain(reason if error.filename is None else f"{error.filename}: {reason}")
        sys.exit(BAD_USAGE)
    except MemoryError as error:
        complain(f"there is not enough memory for this ({error})")
        sys.exit(BAD_USAGE)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        show(f"seqboat-bench {__version__}")
        raise typer.Exit


if __name__ == "__main__":
    main()
