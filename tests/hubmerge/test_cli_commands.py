"""The command line builds the command that is asked for, and all where none is known by that name."""

from __future__ import annotations

import pytest
import typer
from bad.models import hubmerge

from hubmerge.cli.commands import register


def names(app: typer.Typer) -> list[str | None]:
    return [each.name for each in (*app.registered_commands, *app.registered_groups)]


@pytest.mark.parametrize("asked", ["merge", "mal-report", "zoo"])
def test_the_command_that_is_asked_for_is_attached_alone(asked: str) -> None:
    app = typer.Typer()
    register(app)
    register(app, asked)
    assert names(app) == [asked]


@pytest.mark.parametrize("asked", [None, "mrge"])
def test_every_command_is_attached_where_none_is_asked_for(asked: str | None) -> None:
    app = typer.Typer()
    register(app, "merge")
    register(app, asked)
    assert names(app)[:3] == ["demo", "plan", "merge"]
    assert names(app)[-2:] == ["zoo", "symmetry"]


def test_a_misspelled_command_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert hubmerge("mal-reprot") == 2
    assert "Did you mean 'mal-report'?" in capsys.readouterr().err


def test_one_process_can_run_one_command_after_another(capsys: pytest.CaptureFixture[str]) -> None:
    assert hubmerge("methods", "--format", "quiet") == 0
    assert hubmerge("env", "--json") == 0
    assert '"python"' in capsys.readouterr().out
