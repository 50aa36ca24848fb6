"""Where the command begins: until it runs there is nothing to tidy up, and Ctrl-C ends the process at once."""

import signal

__all__ = ["main"]


def main() -> None:
    """Run the command line; while it is still being imported, Ctrl-C shows no traceback of Python's, and leaves no lock taken."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from hubmerge.cli.app import main as run

    run()
