"""Which module holds which command; imported once, when the command line starts."""

from __future__ import annotations

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Attach every command to `app`, in the order in which ``--help`` shows them; once, however often it is called."""
    if app.registered_commands:
        return
    from hubmerge.cli import (
        card,
        demo,
        evaluate,
        extract,
        facts,
        intruders,
        kinship,
        mal_report,
        materialize,
        merging,
        publish,
        symmetry,
        zoo,
    )

    app.command(short_help="The whole job on real data: train, merge, measure, publish.")(demo.demo)
    app.command(short_help="Show what a merge would do; reads headers only.")(merging.plan)
    app.command(short_help="Merge the models of a recipe into a folder.")(merging.merge)
    app.command(short_help="Check a merge: digests, derivation, reload.")(merging.verify)
    app.command(short_help="Score models side by side on the tasks of a suite.")(evaluate.evaluate)
    app.command(short_help="Write the model card of a merge, or check it.")(card.card)
    app.command(short_help="Publish a merge on the Hub or into a folder.")(publish.publish)
    app.command(short_help="Make the checkpoint of a published recipe again.")(materialize.materialize)
    app.command(short_help="Compare what models learned on top of their base.")(kinship.kinship)
    app.command(short_help="Write a LoRA adapter out of a fine-tune.")(extract.extract)
    app.command(short_help="Count the directions that a base has not.")(intruders.intruders)
    app.command(short_help="Measure how far a model's layers bear a donor's.")(mal_report.mal_report)
    app.command(short_help="List the merge methods, or explain one.")(facts.methods)
    app.command(short_help="Print versions, machine and folders.")(facts.env)
    app.add_typer(zoo.app, name="zoo", short_help="Find models, and which can be merged with which.")
    app.add_typer(symmetry.app, name="symmetry", short_help="See which axes of a model share an index.")
