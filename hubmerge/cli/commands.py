"""Which module holds which command, and what `--help` says of it in a line."""

from __future__ import annotations

from importlib import import_module

import typer

__all__ = ["register"]

_COMMANDS = {
    "demo": ("demo", "The whole job on real data: train, merge, measure, publish."),
    "plan": ("merging", "Show what a merge would do; reads headers only."),
    "merge": ("merging", "Merge the models of a recipe into a folder."),
    "verify": ("merging", "Check a merge: digests, derivation, reload."),
    "evaluate": ("evaluate", "Score models side by side on the tasks of a suite."),
    "card": ("card", "Write the model card of a merge, or check it."),
    "publish": ("publish", "Publish a merge on the Hub or into a folder."),
    "materialize": ("materialize", "Make the checkpoint of a published recipe again."),
    "kinship": ("kinship", "Compare what models learned on top of their base."),
    "extract": ("extract", "Write a LoRA adapter out of a fine-tune."),
    "intruders": ("intruders", "Count the directions that a base has not."),
    "mal-report": ("mal_report", "Measure how far a model's layers bear a donor's."),
    "methods": ("facts", "List the merge methods, or explain one."),
    "env": ("facts", "Print versions, machine and folders."),
}
_GROUPS = {
    "zoo": "Find models, and which can be merged with which.",
    "symmetry": "See which axes of a model share an index.",
}


def register(app: typer.Typer, asked: str | None = None) -> None:
    """Attach to `app` the command that is asked for, or every one, in the order in which ``--help`` shows them.

    asked: the first word of the command line.  The others' modules are not imported then, and the command starts sooner; of a
    word that is no command all are attached, so that what is said of it names them.  What was attached before is detached.
    """
    app.registered_commands.clear()
    app.registered_groups.clear()
    known = {*_COMMANDS, *_GROUPS}
    wanted = {asked} & known or known
    for name, (module, help_line) in _COMMANDS.items():
        if name in wanted:
            function = getattr(import_module(f"hubmerge.cli.{module}"), name.replace("-", "_"))
            app.command(name, short_help=help_line)(function)
    for name, help_line in _GROUPS.items():
        if name in wanted:
            app.add_typer(import_module(f"hubmerge.cli.{name}").app, name=name, short_help=help_line)
