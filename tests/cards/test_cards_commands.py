"""`hubmerge evaluate`, `card` and `publish` as a person types them, and what importing cards costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from card_builders import card_of, image_model, merge_of, pictures

from hubmerge.cli import app as command


@pytest.fixture
def run(monkeypatch, capsys):
    """Run one command line; answers exit code, stdout, stderr."""

    def run_it(*arguments):
        monkeypatch.setattr(sys, "argv", ["hubmerge", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            command.main()
        captured = capsys.readouterr()
        return end.value.code or 0, captured.out, captured.err

    return run_it


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    card_of(image_model(tmp_path / "models" / "parent", "owl"), "license: mit")
    merge_of(image_model(tmp_path / "out", "cat"), [tmp_path / "models" / "parent"])
    pictures(tmp_path / "zoo", {"cat": 3, "dog": 1, "owl": 4})
    (tmp_path / "suite.yaml").write_text("name: s\ntasks:\n  - {name: all, task: image-classification, data: zoo}\n")
    return tmp_path


def test_evaluate_prints_the_table_and_writes_the_results(folder, run):
    code, out, err = run("evaluate", "out", "models/parent", "--suite", "suite.yaml", "--out", "results.json")

    lines = out.splitlines()
    assert code == 0
    assert lines[0].split("  ")[0] == "model"
    assert lines[1].startswith("out     0.38 ± 0.17")
    assert lines[2].startswith("parent  0.50 ± 0.18")
    assert lines[4].split() == ["against", "on", "difference", "out", "is"]
    assert lines[5].split() == ["parent", "all", "accuracy", "-0.12", "±", "0.33", "within", "noise"]
    assert "out: all: accuracy 0.375" in err
    assert json.loads((folder / "results.json").read_text())["models"][0]["merge"] == "a" * 64


def test_evaluate_answers_programs(folder, run):
    code, out, _ = run("evaluate", "out", "--suite", "suite.yaml", "--json")
    assert (code, json.loads(out)["models"][0]["tasks"][0]["value"]) == (0, 0.375)
    code, out, _ = run("evaluate", "out", "--suite", "suite.yaml", "--format", "quiet")
    assert (code, out) == (0, "0.375\n")


def test_results_go_through_a_link_and_into_what_is_no_file(folder, run):
    (folder / "there").mkdir()
    (folder / "results.json").symlink_to(folder / "there" / "own.json")
    os.mkfifo(folder / "pipe")
    pipe = os.open(folder / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    for place in ("results.json", "pipe"):
        assert run("evaluate", "out", "--suite", "suite.yaml", "--format", "quiet", "--out", place)[:2] == (
            0,
            "0.375\n",
        )
    assert (folder / "results.json").is_symlink()
    written = (folder / "there" / "own.json").read_text()
    assert json.loads(written)["models"][0]["merge"] == "a" * 64
    assert os.read(pipe, 1 << 16).startswith(written[:20].encode())


def test_a_place_for_the_results_that_does_not_exist_is_known_before_the_work(folder, run):
    code, _, err = run("evaluate", "out", "--suite", "suite.yaml", "--out", "none/results.json")
    assert code == 2
    assert "the folder of none/results.json does not exist" in err


def test_results_that_cannot_be_written_are_printed_all_the_same(folder, run):
    code, out, err = run("evaluate", "out", "--suite", "suite.yaml", "--format", "quiet", "--out", "/dev/full")
    assert (code, out) == (1, "0.375\n")
    assert err.endswith(
        "error: the results cannot be written (No space left on device) · /dev/full · name another file\n"
    )
    code, _, err = run("evaluate", "out", "--suite", "suite.yaml", "--out", "models")
    assert code == 2
    assert "Invalid value for --out: models is a folder" in err


def test_a_fault_is_one_line_and_exit_1(folder, run):
    code, out, err = run("evaluate", "out", "--suite", "siute.yaml")
    assert (code, out, err) == (1, "", "error: no such suite file · siute.yaml · did you mean suite.yaml?\n")


def test_card_writes_and_checks(folder, run):
    code, out, _ = run("card", "out", "--check")
    assert (code, "there is no README.md" in out) == (1, True)
    run("evaluate", "out", "models/parent", "--suite", "suite.yaml", "--out", "results.json")
    code, out, _ = run("card", "out", "--results", "results.json", "--name", "zoo-ties")
    assert (code, out) == (0, "card written: out/README.md\n")
    code, out, _ = run("card", "out", "--check")
    assert (code, out) == (0, "card: out/README.md is complete\n")
    code, out, _ = run("card", "out", "--json")
    assert json.loads(out)["findings"][0]["message"] == "no evaluation"
    assert run("card", "out", "--check", "--overwrite")[0] == 2


def test_publish_prints_its_plan_and_then_does_it(folder, run):
    run("card", "out")
    code, out, err = run("publish", "out", "./zoo-ties", "--dry-run")
    assert (code, err) == (0, "dry run: nothing was written\n")
    assert not (folder / "zoo-ties").exists()
    assert "zoo-ties -> zoo-ties (new), 5 files" in out

    assert run("publish", "out", "./zoo-ties")[2] == "published: zoo-ties\n"
    assert run("publish", "out", "./zoo-ties")[2] == "already published\n"
    code, out, _ = run("publish", "out", "./zoo-ties", "--json")
    assert json.loads(out)["state"] == "already published"


def test_a_dry_run_with_failed_checks_prints_them_and_ends_with_1(folder, run):
    code, out, err = run("publish", "out", "./zoo-ties", "--dry-run")
    assert code == 1
    assert "fail  card: there is no README.md" in out
    assert "error: there is no README.md" in err


def test_an_unknown_kind_is_wrong_usage(folder, run):
    assert run("publish", "out", "./x", "--as", "gguf")[0] == 2


def test_importing_cards_imports_neither_torch_nor_transformers_nor_evaluate():
    code = (
        "import sys, cards; heavy = {'torch', 'transformers', 'evaluate', 'datasets', 'peft', 'huggingface_hub'}; "
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
