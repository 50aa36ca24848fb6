"""The benchmark of six text tasks, made small: one seed of one task that is in Python itself, and another with texts of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from pydoc_data.topics import topics

import pytest

from benchmarks.text_tasks.bench import bench_of
from benchmarks.text_tasks.compare import BASE, EXPERTS, table
from benchmarks.text_tasks.measuring import base_line, experts_line, measured
from benchmarks.text_tasks.settings import TASKS
from benchmarks.text_tasks.trainings import BASES, Training
from benchmarks.text_tasks.ways import SCALES, ways

pytestmark = pytest.mark.real

_LIBRARY, _FORTUNE = (next(task for task in TASKS if task.name == name) for name in ("library", "fortune"))


def test_experts_of_minilm_are_trained_merged_and_scored_and_what_was_measured_is_kept(tmp_path: Path) -> None:
    texts = sorted(topics.values(), key=len)[-160:]
    for place, label in enumerate(_FORTUNE.labels):
        path = tmp_path / "packages" / "fortunes" / label.files
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n%\n".join(texts[place::8]))
    full, lora = Training("full", 4, 3e-4, batch=8), Training("lora", 4, 3e-3, batch=8, rank=2)
    base = replace(BASES[0], tokens=16, train=20, calibration=1, test=4, trainings=(full, lora))
    bench = bench_of(tmp_path, base, 0, (_LIBRARY, _FORTUNE))
    for training, key in ((full, "sens_merging"), (lora, "KnOTS: ties")):
        way = next(way for way in ways(training.kind) if way.key == key)
        line = measured(bench, training, way)
        assert measured(bench, training, way) == line
        assert set(line.score.accuracy) == {"library", "fortune"}
        assert line.seconds is not None
        assert line.seconds > 0
        assert line.calibration is not None
        assert list(line.calibration) == [f"{scale:g}" for scale in SCALES]
        lines = {BASE: base_line(bench), EXPERTS: experts_line(bench, training), key: line}
        assert table(base, training, {0: lines}, {}).rows[-1][0] == key
    assert not (bench.folder.parent / "merged").exists()
