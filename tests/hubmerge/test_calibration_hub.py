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
from hub.fixtures import hub, hub_home, start_hub
from hub.server import HubServer

__all__ = ["hub", "hub_home", "start_hub"]

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


def asked(hub: HubServer, folder: Path, *questions: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What the program finds out about each data set, for the model of that name in `folder`."""
    arguments = [str(Path(__file__).parent), json.dumps(questions)]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=hub.environment(folder / "home"), cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    text_model(tmp_path / "reader")
    image_model(tmp_path / "viewer")
    return tmp_path


def test_rows_of_the_hub_are_drawn_at_one_commit_by_the_seed(hub: HubServer, folder: Path) -> None:
    rows = [{"body": "one" if i % 2 else " "} for i in range(6)] + [{"body": "two three and is one"}]
    hub.add("ada/lines", {"train.jsonl": "".join(f"{json.dumps(row)}\n" for row in rows)}, kind="datasets")
    hub.add("ada/pictures", {"train/a/1.png": png(0), "train/b/2.png": png(255)}, kind="datasets")
    lines, some, pictures = asked(
        hub,
        folder,
        ("./reader", {"data": "ada/lines", "column": "body", "max_length": 4}),
        ("./reader", {"data": "ada/lines", "column": "body", "max_length": 4, "samples": 2}),
        ("./viewer", {"data": "ada/pictures@main"}),
    )
    assert lines["facts"] == ["text", "body", None, []]
    assert lines["light"]
    assert sorted(lines["drawn"]) == [[3, 0, 0, 0]] * 3 + [[4, 5, 6, 7]]
    assert lines["notes"] == ["calibration: ada/lines has 4 of the 256 samples that were asked for"]
    assert lines["same"]
    assert len(some["drawn"]) == 2
    assert sorted(pictures["drawn"]) == [[[[-1, -1], [-1, -1]]], [[[1, 1], [1, 1]]]]


def test_columns_and_rows_that_a_card_or_a_parquet_file_tells_are_known_before(hub: HubServer, folder: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    stream = io.BytesIO()
    parquet.write_table(pa.table({"label": [1], "image": [{"bytes": png(255), "path": None}]}), stream)
    hub.add("ada/table", {"data/train-00000-of-00001.parquet": stream.getvalue()}, kind="datasets")
    card = (
        "---\ndataset_info:\n  features:\n  - name: text\n    dtype: string\n  splits:\n  - name: train\n"
        "    num_bytes: 4\n    num_examples: 1\n---\n"
    )
    hub.add("ada/told", {"README.md": card, "train.csv": "text\none\n"}, kind="datasets")
    table, told, wrong = asked(
        hub,
        folder,
        ("./viewer", {"data": "ada/table", "samples": 1}),
        ("./reader", {"data": "ada/told", "max_length": 4}),
        ("./reader", {"data": "ada/table"}),
    )
    assert table["facts"] == ["image", "image", None, []]
    assert table["drawn"] == [[[[1, 1], [1, 1]]]]
    assert told["facts"] == ["text", "text", 1, ["calibration: ada/told has 1 of the 256 samples that were asked for"]]
    assert told["drawn"] == [[3]]
    assert wrong["fault"].startswith("./reader has no image processor, and the calibration data is images · ")


def test_what_a_dataset_does_not_have_is_told(hub: HubServer, folder: Path) -> None:
    card = "---\nconfigs:\n- config_name: en\n  data_files: en.csv\n- config_name: de\n  data_files: de.csv\n---\n"
    hub.add("ada/two", {"README.md": card, "en.csv": "text\none\n", "de.csv": "text\ntwo\n"}, kind="datasets")
    answers = asked(
        hub,
        folder,
        ("./reader", {"data": "ada/none"}),
        ("./reader", {"data": "ada/two@v9"}),
        ("./reader", {"data": "ada/two"}),
        ("./reader", {"data": "ada/two", "subset": "de", "split": "val"}),
        ("./reader", {"data": "ada/two", "subset": "de", "column": "y"}),
        ("./reader", {"data": "ada/two", "subset": "de", "max_length": 4}),
    )
    assert [answer.get("fault") for answer in answers] == [
        ("there is no such dataset on the Hub, or it is private · datasets/ada/none · "
         "check the spelling; for a private one log in with `hf auth login` or set HF_TOKEN"),
        f"the dataset has no such revision · datasets/ada/two · {hub.url}/datasets/ada/two/commits/main lists what there is",
        ("ada/two cannot be read (Config name is missing. Please pick one among the available configs: ['en', 'de']) · "
         "calibration.data · name one in subset"),
        "ada/two has no split 'val' · calibration.split · one of train",
        "ada/two has no column 'y' · calibration.column · the columns are text",
        None,
    ]  # fmt: skip
    assert answers[-1]["drawn"] == [[4]]
