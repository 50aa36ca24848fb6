"""Suites as people write them, and every way to get one wrong."""

from __future__ import annotations

import pytest
from card_builders import rows

from cards import Suite, SuiteError, load_suite

GOOD = """
name: digits
seed: 3
tasks:
  - name: low
    task: image-classification
    data: data/low
    samples: 5
  - {name: prose, task: perplexity, data: prose.txt, max_length: 128}
"""


def _write(tmp_path, text):
    (tmp_path / "data" / "low").mkdir(parents=True, exist_ok=True)
    (tmp_path / "prose.txt").write_text("words")
    file = tmp_path / "suite.yaml"
    file.write_text(text)
    return file


def _faults(tmp_path, text):
    file = _write(tmp_path, text)
    with pytest.raises(SuiteError) as caught:
        load_suite(file)
    return [str(fault).replace(f"{file}", "suite.yaml") for fault in caught.value.faults]


def test_a_suite_is_read_with_its_defaults(tmp_path):
    suite = load_suite(_write(tmp_path, GOOD))

    low, prose = suite.tasks
    assert (suite.name, suite.seed) == ("digits", 3)
    assert (low.samples, low.label_column, low.metrics) == (5, "label", ("accuracy",))
    assert prose.metrics == ("perplexity", "bits_per_byte")
    assert suite.path_of(low) == tmp_path / "data/low"


def test_the_digest_is_of_the_content_and_not_of_layout_or_place(tmp_path):
    (tmp_path / "other").mkdir()
    here = load_suite(_write(tmp_path, GOOD))
    there = load_suite(_write(tmp_path / "other", "# a comment\n" + GOOD.replace("  - {name", "  -   {name")))
    changed = load_suite(_write(tmp_path, GOOD.replace("seed: 3", "seed: 4")))

    assert here.sha256 == there.sha256 != changed.sha256


def test_all_faults_are_reported_at_once_with_their_places(tmp_path):
    text = """
    nmae: digits
    seed: -1
    tasks:
      - {name: a, task: image-clasification, data: data/low}
      - {name: b, task: perplexity, data: prose.text, sampels: 3}
      - {task: perplexity, data: prose.txt, max_length: 1}
    """
    assert _faults(tmp_path, text) == [
        "name is missing · suite.yaml: name · add name:",
        "seed should be greater than or equal to 0, got -1 · suite.yaml: seed",
        "no task 'image-clasification' · suite.yaml: tasks[0].task · did you mean image-classification?",
        "unknown key 'sampels' · suite.yaml: tasks[1].sampels · did you mean samples?",
        "name is missing · suite.yaml: tasks[2].name · add name:",
        "max_length should be greater than or equal to 2, got 1 · suite.yaml: tasks[2].max_length",
        "unknown key 'nmae' · suite.yaml: nmae · did you mean name?",
        "data 'prose.text' does not exist · suite.yaml: tasks[1].data · did you mean prose.txt?",
    ]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (
            "{name: a, task: perplexity, data: prose.txt, label_column: y}",
            "label_column means nothing for perplexity · suite.yaml: tasks[0] · remove label_column",
        ),
        (
            "{name: a, task: perplexity, data: prose.txt, metric: perplexty}",
            "no metric 'perplexty' for perplexity · suite.yaml: tasks[0] · did you mean perplexity?",
        ),
        (
            "{name: a, name: b, task: perplexity, data: prose.txt}",
            "key 'name' occurs twice, on lines 4 and 4 · suite.yaml · keep one of them",
        ),
    ],
)
def test_a_key_that_cannot_mean_anything_is_refused(tmp_path, line, fault):
    assert _faults(tmp_path, f"\nname: s\ntasks:\n  - {line}\n") == [fault]


JOINT = """
name: s
tasks:
  - {name: a, task: image-classification, data: data/low}
  - {name: b, task: image-classification, data: data/low, head: data/low, unknown_labels: wrong}
  - {name: c, task: text-classification, data: prose.txt}
  - {name: d, task: perplexity, data: prose.txt}
  - {name: e, task: image-classification, data: data/low}
"""


def test_a_joint_measurement_names_its_tasks_in_an_order_of_its_own(tmp_path):
    suite = load_suite(_write(tmp_path, JOINT + "joint: {name: both, tasks: [e, a]}\n"))
    assert [task.name for task in suite.joint_tasks] == ["e", "a"]
    assert suite.model_at("data/low") == str(tmp_path / "data/low")
    assert suite.model_at("data/low+org/lora") == f"{tmp_path}/data/low+org/lora"
    assert suite.model_at("org/name@main") == "org/name@main"


@pytest.mark.parametrize(
    ("joint", "fault"),
    [
        (
            "{tasks: [a, f]}",
            "joint names 'f', which is no task · suite.yaml · the tasks are a, b, c, d, e",
        ),
        (
            "{tasks: [a]}",
            "joint takes at least two tasks, each once · suite.yaml · name them under joint: tasks:",
        ),
        (
            "{tasks: [a, e, a]}",
            "joint takes at least two tasks, each once · suite.yaml · name them under joint: tasks:",
        ),
        (
            "{name: b, tasks: [a, e]}",
            "a task is named 'b', as joint is · suite.yaml · give joint a name: of its own",
        ),
        (
            "{tasks: [a, c]}",
            (
                "joint takes classification tasks of one kind, not image-classification and text-classification · "
                "suite.yaml · name the tasks of one kind of classification under joint: tasks:"
            ),
        ),
        (
            "{tasks: [a, b]}",
            "some of the tasks of joint have a head, others have none · suite.yaml · give each of them a head:, or none",
        ),
        (
            "{tasks: [a, e], ensemble: [data/low]}",
            (
                "joint has 2 tasks and 1 models under ensemble · suite.yaml · "
                "name one model for each task, in the order of the tasks"
            ),
        ),
        (
            "{taks: [a, e]}",
            "unknown key 'taks' · suite.yaml: joint.taks · did you mean tasks?",
        ),
    ],
)
def test_a_joint_measurement_that_cannot_be_made_is_refused(tmp_path, joint, fault):
    assert _faults(tmp_path, f"{JOINT}joint: {joint}\n") == [fault]


def test_what_to_do_about_unknown_labels_is_one_of_two_words(tmp_path):
    line = "{name: a, task: image-classification, data: data/low, unknown_labels: wrongg}"
    assert _faults(tmp_path, f"\nname: s\ntasks:\n  - {line}\n") == [
        "no unknown_labels 'wrongg' · suite.yaml: tasks[0].unknown_labels · did you mean wrong?"
    ]


def test_keys_that_are_not_used_leave_the_digest_as_it_was_before_there_were_any():
    suite = Suite.model_validate({"name": "s", "tasks": [{"name": "a", "task": "perplexity", "data": "a.jsonl"}]})
    assert suite.sha256 == "be6a7b03426d530670b91f4e5cfd7e2cde91ee63bfc807749fcc23ddde164d7a"


def test_two_tasks_of_one_name_are_refused(tmp_path):
    line = "  - {name: a, task: perplexity, data: prose.txt}\n"
    fault = "two tasks are named 'a' · suite.yaml · give every task its own name"
    assert _faults(tmp_path, f"name: s\ntasks:\n{line}{line}") == [fault]


def test_a_suite_without_tasks_is_refused(tmp_path):
    fault = "the suite has no tasks · suite.yaml · list at least one under tasks:"
    assert _faults(tmp_path, "name: s\ntasks: []\n") == [fault]


def test_a_missing_suite_file_offers_the_nearest_one(tmp_path):
    _write(tmp_path, GOOD)
    with pytest.raises(SuiteError, match=r"no such suite file .* did you mean .*suite\.yaml"):
        load_suite(tmp_path / "siute.yaml")


def test_a_list_is_no_suite(tmp_path):
    fault = "the suite is not a mapping · suite.yaml · a suite is a mapping with name, seed and tasks"
    assert _faults(tmp_path, "- a\n") == [fault]


def test_a_suite_made_in_python_looks_from_the_given_folder(tmp_path):
    rows(tmp_path / "a.jsonl", {"text": "x"})
    suite = Suite.model_validate({"name": "s", "tasks": [{"name": "a", "task": "perplexity", "data": "a.jsonl"}]})
    assert suite.at(tmp_path).path_of(suite.tasks[0]).is_file()
