"""`hubmerge demo`: the whole job on real data, every command typed out and run as the user would run it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hubmerge.cli import output
from hubmerge.demo.folder import (
    BASE,
    HIGH,
    LOW,
    METHODS,
    PUBLISHED_METHOD,
    STRANGERS_METHOD,
    WIDE,
    DemoFolder,
    spelling,
)

if TYPE_CHECKING:
    from hubmerge.demo.summary import Row
    from hubmerge.demo.training import TrainedModel

__all__ = ["demo"]

_SEED = 0


def demo(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where everything is written; made if missing.")] = Path(
        "hubmerge-demo"
    ),
) -> None:
    """Train small real models, merge, verify, evaluate and publish them: no account, no network, about a minute."""
    started = time.perf_counter()
    # Before transformers is imported here or in a command: nothing of the demo may reach for the network.
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
    files = DemoFolder(folder)
    files.prepare()
    _make_models(files)
    _browse(files)
    seconds = _merge(files)
    _evaluate_and_publish(files)
    _read_digits(files)
    seconds |= _merge_strangers(files)
    _conclude(files, seconds)
    output.say(f"\nTo try something else, edit a recipe in {files.recipes} and run the demo, or one command, again.")
    seconds_in_all = time.perf_counter() - started
    output.say(f"The whole demo took {seconds_in_all:.0f} s.  The card: {files.published / 'README.md'}")


def _make_models(files: DemoFolder) -> None:
    from hubmerge.demo.digits import load_split, write_pictures, write_unlabelled
    from hubmerge.demo.recipes import suite_text, write_recipes
    from hubmerge.demo.training import save_models

    _title("Pictures and models")
    split = load_split(_SEED)
    held_out = write_pictures(split.held_out, files.pictures)
    unlabelled = write_unlabelled(split.unlabelled, files.unlabelled)
    files.suite.write_text(suite_text(), encoding="utf-8")
    output.say(
        f"scikit-learn's digits: {len(split.train)} pictures to train on, {held_out} held out in {files.pictures}"
    )
    output.say(f"{unlabelled} of those to train on are also in {files.unlabelled}, without their labels.")
    for method in write_recipes(files):
        output.say(f"{files.recipe(method)} was edited and is used as it is")
    _quiet_transformers()

    def tell(model: TrainedModel) -> None:
        output.say(f"  {model.name:16} {model.pictures:5} pictures {model.seconds:6.1f} s")
        sys.stdout.flush()

    output.say("training, on one processor core so that the weights come out the same:")
    save_models(files, split, _SEED, tell)
    output.say(f"{BASE} saw few pictures of all digits; {LOW} and {HIGH} were fine-tuned from it on 0-4 and on 5-9.")
    output.say(f"{WIDE} is another network: wider, and trained on 5-9 from random weights of its own.")
    output.say(f"{files.reference.name} had all pictures in one place, for comparison.")


def _browse(files: DemoFolder) -> None:
    _title("Which models are there, and which can be merged?")
    catalog = str(files.catalog)
    _hubmerge("zoo", "sync", spelling(files.models), "--catalog", catalog)
    _hubmerge("zoo", "compatible", spelling(files.model(BASE)), "--catalog", catalog)


def _merge(files: DemoFolder) -> dict[str, float]:
    """Merge with every method; folder name -> seconds of the whole command."""
    _title("What would a merge do?")
    _hubmerge("plan", str(files.recipe(PUBLISHED_METHOD)))
    _title("Merge")
    seconds = {}
    for method in METHODS:
        seconds[files.merged(method).name] = _hubmerge("merge", str(files.recipe(method)), str(files.merged(method)))
    _title("Is the merge what it says it is?")
    _hubmerge("verify", str(files.merged(PUBLISHED_METHOD)))
    return seconds


def _evaluate_and_publish(files: DemoFolder) -> None:
    _title("How good are the merges beside their parents?")
    models = [*map(files.model, (BASE, LOW, HIGH)), *map(files.merged, METHODS), files.reference]
    _hubmerge("evaluate", *map(spelling, models), "--suite", str(files.suite), "--out", str(files.results))
    merged = files.merged(PUBLISHED_METHOD)
    _title("Card and publication")
    _hubmerge("card", str(merged), "--results", str(files.results))
    _hubmerge("publish", str(merged), spelling(files.published))


def _read_digits(files: DemoFolder) -> None:
    from hubmerge.demo.reading import drawn, read_digits

    _title("The published model, loaded as any other")
    output.say(f">>> model = AutoModelForImageClassification.from_pretrained({spelling(files.published)!r})")
    output.say(f">>> processor = AutoImageProcessor.from_pretrained({spelling(files.published)!r})")
    output.say("The first held-out picture of each digit, label -> prediction (confidence):\n")
    for line in drawn(read_digits(files.published, files.pictures)):
        output.say(line)


def _merge_strangers(files: DemoFolder) -> dict[str, float]:
    """Merge two models of different initialisation and width; folder name -> seconds of the whole command."""
    _title("Models that share no ancestor")
    output.say(f"{LOW} and {WIDE} have no base in common and not the same widths, so their weights cannot be averaged.")
    output.say(
        f"{STRANGERS_METHOD} matches their units by what they answer to pictures, merges the pairs, and fits every layer to both."
    )
    recipe, merged = files.recipe(STRANGERS_METHOD), files.merged(STRANGERS_METHOD)
    parents = (spelling(files.model(LOW)), spelling(files.model(WIDE)))
    _hubmerge("zoo", "why", *parents, "--catalog", str(files.catalog))
    _hubmerge("plan", str(recipe))
    seconds = _hubmerge("merge", str(recipe), str(merged))
    _hubmerge("verify", str(merged))
    suite, results = str(files.suite), str(files.strangers_results)
    _hubmerge("evaluate", *parents, spelling(merged), "--suite", suite, "--out", results)
    return {merged.name: seconds}


def _conclude(files: DemoFolder, seconds: Mapping[str, float]) -> None:
    from hubmerge.demo.summary import read_rows, verdict

    _title("Accuracy on held-out pictures ± standard error")
    tasks, relatives = read_rows(files.results, seconds)
    _, strangers = read_rows(files.strangers_results, seconds)
    rows = (*relatives, *(row for row in strangers if row.name not in {other.name for other in relatives}))
    output.print_table(
        ("model", *tasks, "average", "size (kB)", "merge (s)"),
        [(row.name, *row.scores, row.average, f"{row.size_bytes / 1000:.0f}", _seconds(row)) for row in rows],
    )
    by_name = {row.name: row for row in rows}
    everything, assembled = by_name[files.reference.name], by_name[files.merged(STRANGERS_METHOD).name]
    output.say("\nSpecialists fine-tuned from one base:")
    merges = [row for row in relatives if row.name in seconds]
    output.say(verdict([by_name[name] for name in (BASE, LOW, HIGH)], merges))
    output.say(
        f"{everything.name}: average {everything.average}, with all pictures in one place, as no parent had them"
    )
    output.say("\nModels that share no ancestor:")
    output.say(verdict([by_name[name] for name in (LOW, WIDE)], [assembled]))
    output.say(verdict([by_name[BASE]], [assembled], against="without any merging"))


def _seconds(row: Row) -> str | None:
    return None if row.merge_seconds is None else f"{row.merge_seconds:.1f}"


def _title(text: str) -> None:
    output.say(f"\n== {text}")
    sys.stdout.flush()


def _hubmerge(*arguments: str) -> float:
    """Show and run one command of ours in a process of its own; its seconds.  Its failure ends the demo."""
    output.say(f"\n$ {shlex.join(('hubmerge', *arguments))}")
    sys.stdout.flush()
    started = time.perf_counter()
    # -P: a file of the user's that is called like one of our libraries must not be imported in its place
    code = subprocess.run([sys.executable, "-P", "-m", "hubmerge", *arguments], check=False).returncode
    seconds = time.perf_counter() - started
    if code != 0:
        output.note(f"the demo stops here: `hubmerge {arguments[0]}` ended with exit code {code}")
        raise typer.Exit(code if code > 0 else 1)
    output.say(f"({seconds:.1f} s)")
    return seconds


def _quiet_transformers() -> None:
    """No progress bars for models that are saved in milliseconds."""
    from transformers.utils import logging

    logging.disable_progress_bar()
