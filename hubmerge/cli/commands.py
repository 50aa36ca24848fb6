"""Which module holds which command; imported once, when the command line starts."""

from __future__ import annotations

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Attach every command to `app`, in the order in which ``--help`` shows them; once, however often it is called."""
    if app.registered_commands:
        return
    from hubmerge.cli import card, demo, evaluate, facts, materialize, merging, publish, zoo

    app.command()(demo.demo)
    app.command()(merging.plan)
    app.command()(merging.merge)
    app.command()(merging.verify)
    app.command()(evaluate.evaluate)
    app.command()(card.card)
    app.command()(publish.publish)
    app.command()(materialize.materialize)
    app.command()(facts.methods)
    app.command()(facts.env)
    app.add_typer(zoo.app, name="zoo")
