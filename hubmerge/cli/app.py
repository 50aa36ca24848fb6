"""The `hubmerge` command: its subcommands, its exit codes, and how a fault is shown."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from typing import Annotated, TypeGuard

import typer

from hubmerge.cli import output
from hubmerge.cli.interrupts import heard_between_imports
from hubmerge.version import __version__
from zoo_index.errors import HubmergeError

__all__ = ["app", "main"]

app = typer.Typer(
    name="hubmerge",
    help="Merge several models into one: plan, merge, verify, evaluate, write the card, publish.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(asked: bool) -> None:
    if asked:
        output.say(__version__)
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
    _traceback: Annotated[
        bool, typer.Option("--traceback", help="On an error, show where in the code it arose.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line: exit 0 done, 1 it failed, 2 wrong usage."""
    _open_streams()
    from hubmerge.cli.quick_start import without_collecting

    with without_collecting():
        from hubmerge.cli import commands

        commands.register(app, next((word for word in sys.argv[1:] if not word.startswith("-")), None))
    show_traceback = "--traceback" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--traceback"]
    try:
        with heard_between_imports():
            app(arguments, prog_name="hubmerge")
    except HubmergeError as fault:
        if show_traceback:
            raise
        for single in fault.faults:
            output.error(single)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except Exception as unexpected:
        if show_traceback:
            raise
        if _is_full(unexpected):
            output.error(f"the answer cannot be written ({unexpected.strerror}) · standard output · send it elsewhere")
        else:
            what = f"{type(unexpected).__name__}: {unexpected}"
            output.error(
                f"internal error: {what} · this is a fault of hubmerge · run again with --traceback and report it"
            )
        sys.exit(1)


def _open_streams() -> None:
    """Lead streams that are closed to nowhere: else the numbers of their descriptors go to the first files of a merge."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, this one
            setattr(sys, name, os.fdopen(nowhere, "w" if number else "r", encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8 cannot show every word


def _is_full(error: Exception) -> TypeGuard[OSError]:
    """Whether it is standard output that takes no more: writing to a file has the file's name in its error."""
    return isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None
