"""Time and memory of an alignment, stage by stage, and how they grow: `python -m benchmarks.heterogeneous.sizes`.

Two random llamas of SmolLM2-135M's sizes, and of four of its layers with few words; each stage runs in a process of its own, on one
thread.  The models are made before anything is measured.  With `--part smollm2` it is SmolLM2-135M and a copy of it in another order; with
`--part carried` a transport and single layers of a donor, with `--part batches` what one batch takes.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.engine.report import Report
from benchmarks.heterogeneous.saving import save_report
from benchmarks.heterogeneous.sizes_stages import Stage, run_stage

__all__ = ["FEW", "SMOLLM2", "cases", "main", "write_learned", "write_pair"]

SMOLLM2: Mapping[str, int] = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
}
"""Of HuggingFaceTB/SmolLM2-135M."""

FEW: Mapping[str, int] = {**SMOLLM2, "num_hidden_layers": 4, "vocab_size": 1000}
"""Four layers of it, and fewer words."""

_SAMPLES = 32
_ROOM = 10**8
_NOISE = 0.1
_LEARNED = 0.01
_MEASURED = (
    "Memory is the peak of anonymous memory above the models, whose files transformers maps; what is beyond the room of a fit is on the "
    "disk. Seconds are of processor time, on one thread; measured once."
)
_COLUMNS = (
    "stage",
    "models",
    "samples",
    "CPU s",
    "MB above the models",
    "MB of the scratch file",
    "CPU s to load them",
)
_GROWTH = (100, 300, 600)
_WIDTHS = (1024, 2048, 4096)
_DEEPER = 12
_LONG = 256
_BATCHES = (4, 16)
_ON_BATCHES = (
    (4, "matching by activations"),
    (_DEEPER, "matching by activations"),
    (4, "single layers"),
    (4, "averaging and least squares"),
)
_ROWS = 600


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every stage once."""
    commands = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    commands.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    commands.add_argument(
        "--part",
        choices=["models", "smollm2", "carried", "batches", "units"],
        default="models",
        help="stages of merges of random models, those of SmolLM2-135M, deltas and single layers, large batches, or assignments alone",
    )
    given = commands.parse_args(arguments)
    if given.part == "units":
        _assignments(given.results)
        return
    if given.part == "smollm2":
        _of_smollm2(given.results)
        return
    if given.part == "carried":
        _carried(given.results)
        return
    if given.part == "batches":
        _batches(given.results)
        return
    report = Report(
        "sizes",
        "Time and memory of an alignment",
        f"Two random llamas of SmolLM2-135M's sizes in float32, and of {FEW['num_hidden_layers']} of its layers with "
        f"{FEW['vocab_size']:,} words; samples are texts of 16 random tokens. Matching looks at all groups, the residual stream too; "
        f"layers are fitted on the merge's own inputs with one ridge. {_MEASURED}",
        _COLUMNS,
        {"samples": _SAMPLES, "growth": _GROWTH, "room": _ROOM},
    )
    with tempfile.TemporaryDirectory() as scratch:
        pairs = {name: write_pair(Path(scratch) / name, sizes) for name, sizes in (("whole", SMOLLM2), ("few", FEW))}
        for name, stage in cases(pairs):
            _add(report, name, stage)
            save_report("sizes", report, given.results)


def cases(pairs: Mapping[str, tuple[str, str]]) -> Iterator[tuple[str, Stage]]:
    """What is measured, each with what the models are called.  pairs: the folders of the models, `whole` and `few`."""
    for what in (
        "matching by activations",
        "matching by activations, all sums at once",
        "averaging",
        "averaging and least squares",
    ):
        yield "135M", Stage(what, pairs["whole"], _SAMPLES)
    yield "135M", Stage("averaging and least squares", pairs["whole"], _SAMPLES, room=_ROOM)
    few = f"{FEW['num_hidden_layers']} layers"
    for what, room in (
        ("matching by activations", None),
        ("averaging and least squares", None),
        ("averaging and least squares", _ROOM),
    ):
        for samples in _GROWTH:
            yield few, Stage(what, pairs["few"], samples, room=room)


def _add(report: Report, name: str, stage: Stage) -> None:
    """Measure a stage; its row.  name: of the models."""
    taken = run_stage(stage)
    what = stage.what if stage.room is None else f"{stage.what}, room for {stage.room / 1e6:.0f} MB"
    sizes = (f"{size / 1e6:.0f}" if size else "-" for size in (taken.anonymous, taken.disk))
    row = (what, name, stage.samples or "-", f"{taken.seconds:.1f}", *sizes, f"{taken.loading:.1f}")
    report.add(row, stage=what, name=name, samples=stage.samples, width=stage.width, taken=taken)


def _of_smollm2(results: Path) -> None:
    report = Report(
        "sizes_smollm2",
        "Time and memory of an alignment: SmolLM2-135M",
        f"SmolLM2-135M-Instruct and a copy of it whose units stand in another order, and whose weights were moved by noise of {_NOISE} of each "
        f"tensor's spread, both in float32. {_MEASURED}",
        _COLUMNS,
        {"samples": _SAMPLES, "noise": _NOISE, "room": _ROOM},
    )
    with tempfile.TemporaryDirectory() as scratch:
        pair = _write_smollm2(Path(scratch))
        for stage in (
            Stage("matching by activations", pair, _SAMPLES),
            Stage("matching by weights", pair),
            Stage("averaging and least squares", pair, _SAMPLES),
            Stage("averaging and least squares", pair, _SAMPLES, room=_ROOM),
        ):
            _add(report, "SmolLM2-135M", stage)
            save_report("sizes --part smollm2", report, results)


def _carried(results: Path) -> None:
    report = Report(
        "sizes_carried",
        "Time and memory of a transport and of single layers",
        f"What was learned on top of a base, carried to another model, and two shares of every layer of a donor tried in a base. SmolLM2-135M is "
        f"SmolLM2-135M-Instruct beside a copy in another order, as above; the models of {FEW['num_hidden_layers']} layers are random. What was "
        f"learned is noise of {_LEARNED}. {_MEASURED}",
        _COLUMNS,
        {"samples": _SAMPLES, "noise": _NOISE, "learned": _LEARNED},
    )
    with tempfile.TemporaryDirectory() as scratch:
        few, whole = write_pair(Path(scratch) / "few", FEW), _write_smollm2(Path(scratch) / "whole")
        for name, pair, whats in (
            (f"{FEW['num_hidden_layers']} layers", few, ("carrying a delta", "carrying a delta, stream turned")),
            ("SmolLM2-135M", whole, ("carrying a delta",)),
        ):
            three = (*pair, write_learned(pair[1]))
            for what in whats:
                _add(report, name, Stage(what, three, _SAMPLES))
            _add(report, name, Stage("single layers", pair, _SAMPLES))
            save_report("sizes --part carried", report, results)


def _batches(results: Path) -> None:
    report = Report(
        "sizes_batches",
        "Memory of a batch",
        f"Two random llamas of {FEW['num_hidden_layers']} and of {_DEEPER} layers, else of SmolLM2-135M's sizes, with {FEW['vocab_size']:,} words, "
        f"and one batch of texts of {_LONG} tokens. {_MEASURED}",
        ("stage", "models", "texts in the batch", "CPU s", "MB above the models"),
        {"tokens": _LONG, "batches": _BATCHES},
    )
    with tempfile.TemporaryDirectory() as scratch:
        for layers, what in _ON_BATCHES:
            folder = Path(scratch) / str(layers)
            if not folder.exists():
                write_pair(folder, {**FEW, "num_hidden_layers": layers})
            for texts in _BATCHES:
                taken = run_stage(Stage(what, (f"{folder}/0", f"{folder}/1"), texts, tokens=_LONG, batch=texts))
                row = (what, f"{layers} layers", texts, f"{taken.seconds:.1f}", f"{taken.anonymous / 1e6:.0f}")
                report.add(row, stage=what, layers=layers, texts=texts, taken=taken)
                save_report("sizes --part batches", report, results)


def write_learned(base: str) -> str:
    """A copy of a model with noise in its matrices; the folder that it lies in."""
    import torch
    from safetensors.torch import load_file, save_file

    folder, drawn = Path(f"{base}-learned"), torch.Generator().manual_seed(0)
    shutil.copytree(base, folder)
    tensors = load_file(Path(base) / "model.safetensors")
    changed = {
        name: values + _LEARNED * torch.randn(values.shape, generator=drawn) if values.dim() > 1 else values
        for name, values in tensors.items()
    }
    save_file(changed, folder / "model.safetensors", {"format": "pt"})
    return str(folder)


def _write_smollm2(folder: Path) -> tuple[str, str]:
    import torch

    from benchmarks.heterogeneous.language_parents import reordered, smollm2

    model, _ = smollm2()
    copy, drawn = reordered(model, 0), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for values in copy.parameters():
            values.add_(torch.randn(values.shape, generator=drawn), alpha=_NOISE * float(values.std()))
    for name, each in (("0", model), ("1", copy)):
        each.save_pretrained(folder / name)
    return str(folder / "0"), str(folder / "1")


def _assignments(results: Path) -> None:
    report = Report(
        "sizes_units",
        "Time and memory of an assignment",
        f"Units found again in another order with as much noise as signal, in {_ROWS} rows: correlations and their assignment. Seconds are of "
        "processor time, on one thread; measured once.",
        ("units", "CPU s", "MB"),
        {"widths": _WIDTHS},
    )
    for width in _WIDTHS:
        taken = run_stage(Stage("assignment", (), _ROWS, width))
        report.add((f"{width:,}", f"{taken.seconds:.1f}", f"{taken.peak / 1e6:.0f}"), width=width, taken=taken)
    save_report("sizes --part units", report, results)


def write_pair(folder: Path, sizes: Mapping[str, Any]) -> tuple[str, str]:
    """Two random llamas of these sizes, their words tied; the folders that they lie in."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    places = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=True)).save_pretrained(folder / str(seed))
        places.append(str(folder / str(seed)))
    return places[0], places[1]


if __name__ == "__main__":
    main()
