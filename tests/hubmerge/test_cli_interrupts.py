"""When the command line hears Ctrl-C: at once while it is being imported, after an import while it runs."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hubmerge.cli import app, interrupts

INTERRUPTS_ITSELF = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nwhole = True\n"


@pytest.mark.skipif(os.name != "posix", reason="a process of Windows sends itself no Ctrl-C")
def test_while_the_command_line_is_imported_it_ends_the_process_without_a_word(tmp_path: Path) -> None:
    """It was raised in the middle of an import: a traceback, or lost, with the import lock taken, and the merge hung."""
    (tmp_path / "typer.py").write_text(INTERRUPTS_ITSELF)
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    asked, environment = [sys.executable, "-m", "hubmerge", "--version"], {**os.environ, "PYTHONPATH": path}
    ended = subprocess.run(asked, env=environment, capture_output=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, b"", b"")


def import_and_wait(name: str) -> None:
    with interrupts.heard_between_imports():
        importlib.import_module(name)
        threading.Event().wait(10)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="nothing can look again later")
def test_during_an_import_it_is_heard_when_that_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "interrupts_itself.py").write_text(INTERRUPTS_ITSELF)
    monkeypatch.syspath_prepend(tmp_path)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        import_and_wait("interrupts_itself")
    assert sys.modules.pop("interrupts_itself").whole
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="nothing can look again later")
def test_an_import_puts_it_off_for_five_seconds_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lasts_long.py").write_text(INTERRUPTS_ITSELF + "import threading\nthreading.Event().wait(10)\n")
    monkeypatch.syspath_prepend(tmp_path)
    seconds = iter((0.0, 4.9, 5.0))
    monkeypatch.setattr(interrupts, "monotonic", lambda: next(seconds))
    with pytest.raises(KeyboardInterrupt):
        import_and_wait("lasts_long")
    assert next(seconds, None) is None
    assert "lasts_long" not in sys.modules


def test_where_no_command_heeds_it_the_exit_code_is_that_of_the_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(app, "app", interrupted)
    monkeypatch.setattr(app.sys, "argv", ["hubmerge", "env"])
    monkeypatch.setattr("hubmerge.cli.commands.register", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 130
