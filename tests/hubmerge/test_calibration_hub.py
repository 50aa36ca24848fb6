"""Calibration data from the Hub, by the real `datasets` in a process of its own: what is told before, and what is drawn."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from calibration_data import image_model, png, text_model
from hub.server import HubServer

PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import datasets.config
datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0  # else five seconds for each time a parquet file is read
from calibration_data import checked, opened
from hubmerge.errors import HubmergeError

answers = []
for model, calibration in json.loads(sys.argv[2]):
    try:
        facts = checked(Path(model), **calibration)
        answer = {"facts": [facts.kind, facts.column, facts.samples, list(facts.notes)], "light": "torch" not in sys.modules}
        batches = opened(Path(model), **calibration)
        name = "input_ids" if batches.kind == "text" else "pixel_values"
        answer["drawn"] = [row.tolist() for batch in batches for row in batch[name]]
        answer["same"] = batches.digest == opened(Path(model), **calibration).digest
        answer["notes"] = list(batches.notes)
    except HubmergeError as fault:
        answer = {"fault": str(fault)}
    answers.append(answer)
print(json.dumps(answers))
"""


QUESTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "lines": ("./reader", {"data": "ada/lines", "column": "body", "max_length": 4}),  # first: torch is not loaded yet
    "some": ("./reader", {"data": "ada/lines", "column": "body", "max_length": 4, "samples": 2}),
    "pictures": ("./viewer", {"data": "ada/pictures@main"}),
    "table": ("./viewer", {"data": "ada/table", "samples": 1}),
    "told": ("./reader", {"data": "ada/told", "max_length": 4}),
    "wrong": ("./reader", {"data": "ada/table"}),
    "none": ("./reader", {"data": "ada/none"}),
    "no revision": ("./reader", {"data": "ada/two@v9"}),
    "no subset": ("./reader", {"data": "ada/two"}),
    "no split": ("./reader", {"data": "ada/two", "subset": "de", "split": "val"}),
    "no column": ("./reader", {"data": "ada/two", "subset": "de", "column": "y"}),
    "german": ("./reader", {"data": "ada/two", "subset": "de", "max_length": 4}),
}
"""A model and its calibration data, by what the tests call the answer."""


def add_datasets(hub: HubServer) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    rows = [{"body": "one" if i % 2 else " "} for i in range(6)] + [{"body": "two three and is one"}]
    hub.add("ada/lines", {"train.jsonl": "".join(f"{json.dumps(row)}\n" for row in rows)}, kind="datasets")
    hub.add("ada/pictures", {"train/a/1.png": png(0), "train/b/2.png": png(255)}, kind="datasets")
    stream = io.BytesIO()
    parquet.write_table(pa.table({"label": [1], "image": [{"bytes": png(255), "path": None}]}), stream)
    hub.add("ada/table", {"data/train-00000-of-00001.parquet": stream.getvalue()}, kind="datasets")
    card = (
        "---\ndataset_info:\n  features:\n  - name: text\n    dtype: string\n  splits:\n  - name: train\n"
        "    num_bytes: 4\n    num_examples: 1\n---\n"
    )
    hub.add("ada/told", {"README.md": card, "train.csv": "text\none\n"}, kind="datasets")
    card = "---\nconfigs:\n- config_name: en\n  data_files: en.csv\n- config_name: de\n  data_files: de.csv\n---\n"
    hub.add("ada/two", {"README.md": card, "en.csv": "text\none\n", "de.csv": "text\ntwo\n"}, kind="datasets")


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What one process finds out about every data set: to import `datasets` takes longer than all answers."""
    folder = tmp_path_factory.mktemp("models")
    text_model(folder / "reader")
    image_model(folder / "viewer")
    with HubServer(tmp_path_factory.mktemp("hub")) as hub:
        add_datasets(hub)
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), json.dumps(list(QUESTIONS.values()))],
            env=hub.environment(folder / "home"), cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert hub.crashes == []
        found = json.loads(done.stdout.replace(hub.url, "http://hub"))
    return dict(zip(QUESTIONS, found, strict=True))


def test_rows_of_the_hub_are_drawn_at_one_commit_by_the_seed(answers: dict[str, dict[str, Any]]) -> None:
    lines, some, pictures = (answers[name] for name in ("lines", "some", "pictures"))
    assert lines["facts"] == ["text", "body", None, []]
    assert lines["light"]
    assert sorted(lines["drawn"]) == [[3, 0, 0, 0]] * 3 + [[4, 5, 6, 7]]
    assert lines["notes"] == ["calibration: ada/lines has 4 of the 256 samples that were asked for"]
    assert lines["same"]
    assert len(some["drawn"]) == 2
    assert sorted(pictures["drawn"]) == [[[[-1, -1], [-1, -1]]], [[[1, 1], [1, 1]]]]


def test_columns_and_rows_that_a_card_or_a_parquet_file_tells_are_known_before(
    answers: dict[str, dict[str, Any]],
) -> None:
    table, told, wrong = (answers[name] for name in ("table", "told", "wrong"))
    assert table["facts"] == ["image", "image", None, []]
    assert table["drawn"] == [[[[1, 1], [1, 1]]]]
    assert told["facts"] == ["text", "text", 1, ["calibration: ada/told has 1 of the 256 samples that were asked for"]]
    assert told["drawn"] == [[3]]
    assert wrong["fault"].startswith("./reader has no image processor, and the calibration data is images · ")


def test_what_a_dataset_does_not_have_is_told(answers: dict[str, dict[str, Any]]) -> None:
    asked = ("none", "no revision", "no subset", "no split", "no column", "german")
    assert [answers[name].get("fault") for name in asked] == [
        ("there is no such dataset on the Hub, or it is private · datasets/ada/none · "
         "check the spelling; for a private one log in with `hf auth login` or set HF_TOKEN"),
        "the dataset has no such revision · datasets/ada/two · http://hub/datasets/ada/two/commits/main lists what there is",
        ("ada/two cannot be read (Config name is missing. Please pick one among the available configs: ['en', 'de']) · "
         "calibration.data · name one in subset"),
        "ada/two has no split 'val' · calibration.split · one of train",
        "ada/two has no column 'y' · calibration.column · the columns are text",
        None,
    ]  # fmt: skip
    assert answers["german"]["drawn"] == [[4]]
