"""`bench …`: parses, calls and prints. Torch is loaded only by the commands that compute."""

import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from bench.commands import bisect as cli_bisect
from bench.commands import compare as cli_compare
from bench.commands import doctor as cli_doctor
from bench.commands import export as cli_export
from bench.commands import history as cli_history
from bench.commands import regress as cli_regress
from bench.commands import run as cli_measure
from bench.commands import site as cli_site
from bench.commands import store as cli_store
from bench.commands import table as cli_show
from bench.commands import train as cli_train
from bench.commands import verify as cli_verify
from bench.commands.console import BAD_USAGE, INTERRUPTED, complain, prepare_streams, show
from bench.errors import UsageError
from bench.version import __version__
from implementations.errors import RegistryError


class Commands(TyperGroup):
    """All commands; Ctrl-C ends any of them with a line, where typer would say nothing."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            complain("interrupted")
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Plain help: rich would take longer to import than everything else together.
    rich_markup_mode=None,
    help="How fast, and how much memory, is this sequence model really?",
)

for commands in (
    *(cli_measure, cli_train, cli_show, cli_verify),
    *(cli_regress, cli_bisect, cli_doctor, cli_compare, cli_export, cli_store, cli_history, cli_site),
):
    app.add_typer(commands.app)


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
        complain(f"{error.filename or 'output'}: {error.strerror or error}")
        sys.exit(BAD_USAGE)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        show(f"seqboat-bench {__version__}")
        raise typer.Exit


if __name__ == "__main__":
    main()
