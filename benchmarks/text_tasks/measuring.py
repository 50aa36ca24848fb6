"""One way of merging measured on one seed: merged, its scale chosen on the calibration pieces, scored on the held-out ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.text_tasks.bench import Bench
from benchmarks.text_tasks.merging import merged
from benchmarks.text_tasks.models import encoded, opened
from benchmarks.text_tasks.scoring import Score, score
from benchmarks.text_tasks.trainings import Training
from benchmarks.text_tasks.ways import SCALES, Way

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Line", "base_line", "best_scale", "experts_line", "kept", "measured"]


@dataclass(frozen=True)
class Line:
    """One line of the table for one seed.

    scale: the one that was chosen, None without a choice.  default: the score at the method's own scale, that of `score` where it is the
    one.  calibration: scale -> mean accuracy on the calibration pieces.  seconds, bytes: of the merge, at any scale.
    """

    score: Score
    scale: float | None = None
    default: Score | None = None
    calibration: Mapping[str, float] | None = None
    seconds: float | None = None
    bytes: int | None = None


def base_line(bench: Bench) -> Line:
    """The base as it comes: no task has been learned, and the head has rows for all."""
    return _kept(bench, "base", {}, lambda: Line(_test(bench, opened(bench.folder))))


def experts_line(bench: Bench, training: Training) -> Line:
    """Every expert on its own task; hits among all labels, on its own task too."""

    def found() -> Line:
        scores = []
        for task, folder in zip(bench.tasks, bench.experts(training), strict=True):
            model = opened(bench.folder, folder) if training.kind == "lora" else opened(folder)
            scores.append(_test(bench, model, (task.name,)))
        accuracy = {name: value for each in scores for name, value in each.accuracy.items()}
        return Line(Score(accuracy, {k: sum(each.hits[k] for each in scores) / len(scores) for k in scores[0].hits}))

    return _kept(bench, f"{training.kind}-experts", asdict(training), found)


def kept(bench: Bench, training: Training, way: Way) -> Line | None:
    """The line of a way where it was measured before, on the same texts and in the same way."""
    return _read(bench, _name(way), _facts(training, way))


def measured(bench: Bench, training: Training, way: Way) -> Line:
    """Merge and score, or what was found before.

    Other scales than 1 are those of the merged delta in memory, which is what the methods' own parameter does.
    """

    def found() -> Line:
        out = bench.folder.parent / "merged"
        calibration = _calibration(bench, labels=way.looks_at == "labels") if way.looks_at else None
        cost = merged(way, bench.folder, bench.experts(training), bench.seed, out, calibration)
        model = opened(bench.folder, out) if way.kind == "lora" else opened(out)
        shutil.rmtree(out)
        if way.scale is None:
            return Line(_test(bench, model), seconds=cost.seconds, bytes=cost.bytes)
        before, after = _base_weights(bench.folder), _weights(model)
        shown = {name: each.calibration for name, each in bench.parts.items()}
        means = {}
        for scale in SCALES:
            _scale(model, before, after, scale)
            means[scale] = score(model, bench.tokenizer, bench.base.tokens, shown).mean
        best = best_scale(means)
        _scale(model, before, after, 1.0)
        default = _test(bench, model)
        if best != 1.0:
            _scale(model, before, after, best)
        chosen = default if best == 1.0 else _test(bench, model)
        listed = {f"{scale:g}": mean for scale, mean in means.items()}
        return Line(chosen, best, default, listed, cost.seconds, cost.bytes)

    return _kept(bench, _name(way), _facts(training, way), found)


def best_scale(means: Mapping[float, float]) -> float:
    """The scale with the highest mean accuracy; of equally good ones the smallest."""
    return max(sorted(means), key=lambda scale: means[scale])


def _calibration(bench: Bench, *, labels: bool) -> Path:
    """The calibration pieces as a file: for every task a list with one batch."""
    import torch

    listed = []
    for each in bench.parts.values():
        ids, mask = encoded(bench.tokenizer, each.calibration.texts, bench.base.tokens)
        batch = {"input_ids": ids, "attention_mask": mask}
        listed.append([{**batch, "labels": torch.tensor(each.calibration.labels)} if labels else batch])
    path = bench.folder.parent / "calibration.pt"
    torch.save(listed, path)
    return path


def _test(bench: Bench, model: Any, tasks: Sequence[str] | None = None) -> Score:
    pieces = {name: each.test for name, each in bench.parts.items() if tasks is None or name in tasks}
    return score(model, bench.tokenizer, bench.base.tokens, pieces)


@lru_cache(1)
def _base_weights(folder: Path) -> dict[str, Tensor]:
    return _weights(opened(folder))


def _weights(model: Any) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def _scale(model: Any, before: Mapping[str, Tensor], after: Mapping[str, Tensor], scale: float) -> None:
    for name, value in model.named_parameters():
        value.data = before[name] + scale * (after[name] - before[name])


def _name(way: Way) -> str:
    return f"{way.kind}-{way.key}".replace(" ", "_").replace(":", "")


def _facts(training: Training, way: Way) -> dict[str, Any]:
    return {"way": asdict(way), "training": asdict(training), "scales": list(SCALES)}


def _kept(bench: Bench, name: str, facts: Mapping[str, Any], find: Callable[[], Line]) -> Line:
    """The line as it was found before, else as it is found now."""
    line = _read(bench, name, facts)
    if line is None:
        line = find()
        path = _place(bench, name)
        path.parent.mkdir(exist_ok=True)
        content = {"facts": _all_facts(bench, facts), "line": asdict(line)}
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return line


def _read(bench: Bench, name: str, facts: Mapping[str, Any]) -> Line | None:
    try:
        found = json.loads(_place(bench, name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if found["facts"] != json.loads(json.dumps(_all_facts(bench, facts))):
        return None
    line = found["line"]
    score, default = (
        each and Score(each["accuracy"], {int(k): value for k, value in each["hits"].items()})
        for each in (line["score"], line["default"])
    )
    return Line(score, line["scale"], default, line["calibration"], line["seconds"], line["bytes"])


def _place(bench: Bench, name: str) -> Path:
    return bench.folder.parent / "lines" / f"{name}.json"


def _all_facts(bench: Bench, facts: Mapping[str, Any]) -> dict[str, Any]:
    return {"texts": bench.texts, "tokens": bench.base.tokens, **facts}
