"""The demo as a whole: refused where it must be, stopped where a step fails, and true in what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from hubmerge.cli.demo import _hubmerge
from hubmerge.demo.folder import METHODS, DemoFolder

REPOSITORY = Path(__file__).parents[2]
PARENTS = ("digits-base", "digits-low", "digits-high")


def _run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HUBMERGE_CACHE": str(cwd / "cache")}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def test_a_folder_of_somebody_elses_ends_the_command_with_one_error_and_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    ended = _run("-m", "hubmerge", "demo", "mine", cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr == (
        "error: the folder exists and was not made by the demo · mine · name another folder: hubmerge demo FOLDER\n"
    )
    assert ended.stdout == ""


def test_a_step_is_shown_as_typed_and_its_failure_ends_the_demo_with_its_exit_code(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(typer.Exit) as stopped:
        _hubmerge("no-such-command", "a folder")
    assert stopped.value.exit_code == 2
    shown = capfd.readouterr()
    assert shown.out == "\n$ hubmerge no-such-command 'a folder'\n"
    assert "No such command 'no-such-command'" in shown.err
    assert shown.err.endswith("the demo stops here: `hubmerge no-such-command` ended with exit code 2\n")


@dataclass(frozen=True)
class Demo:
    """One finished demo: the folder it was started in, its files, what it printed."""

    place: Path
    files: DemoFolder
    output: str

    def results(self) -> dict[str, dict[str, Any]]:
        """Name of a model -> name of a task -> its score, in the order of the closing table."""
        files = (self.files.results, self.files.strangers_results)
        models = [model for file in files for model in json.loads((self.place / file).read_text())["models"]]
        return {model["name"]: {task["name"]: task for task in model["tasks"]} for model in models}

    def average(self, name: str) -> float:
        return float(np.mean([task["value"] for task in self.results()[name].values()]))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    place = tmp_path_factory.mktemp("newcomer")
    ended = _run("-m", "hubmerge", "demo", cwd=place)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return Demo(place, DemoFolder(Path("hubmerge-demo")), ended.stdout)


@pytest.mark.real
def test_every_command_is_printed_as_a_user_would_type_it(demo: Demo) -> None:
    typed = [line.removeprefix("$ ") for line in demo.output.splitlines() if line.startswith("$ ")]
    outs = {method: f"hubmerge-demo/merged/digits-{method.replace('_', '-')}" for method in METHODS}
    merges = [f"hubmerge merge hubmerge-demo/recipes/{method}.yaml {out}" for method, out in outs.items()]
    base, low, high = (f"./hubmerge-demo/models/{name}" for name in PARENTS)
    wide = "./hubmerge-demo/models/digits-high-wide"
    everyone = " ".join(
        [base, low, high, *(f"./{out}" for out in outs.values()), "./hubmerge-demo/reference/digits-all"]
    )
    assert typed == [
        "hubmerge zoo sync ./hubmerge-demo/models --catalog hubmerge-demo/zoo.duckdb",
        "hubmerge zoo compatible ./hubmerge-demo/models/digits-base --catalog hubmerge-demo/zoo.duckdb",
        "hubmerge plan hubmerge-demo/recipes/task_arithmetic.yaml",
        *merges,
        "hubmerge verify hubmerge-demo/merged/digits-task-arithmetic",
        f"hubmerge evaluate {everyone} --suite hubmerge-demo/suite.yaml --out hubmerge-demo/results.json",
        "hubmerge card hubmerge-demo/merged/digits-task-arithmetic --results hubmerge-demo/results.json",
        "hubmerge publish hubmerge-demo/merged/digits-task-arithmetic ./hubmerge-demo/published/digits-task-arithmetic",
        f"hubmerge zoo why {low} {wide} --catalog hubmerge-demo/zoo.duckdb",
        "hubmerge plan hubmerge-demo/recipes/pleas.yaml",
        "hubmerge merge hubmerge-demo/recipes/pleas.yaml hubmerge-demo/merged/digits-pleas",
        "hubmerge verify hubmerge-demo/merged/digits-pleas",
        (
            f"hubmerge evaluate {low} {wide} ./hubmerge-demo/merged/digits-pleas --suite hubmerge-demo/suite.yaml "
            "--out hubmerge-demo/results-strangers.json"
        ),
    ]


@pytest.mark.real
@pytest.mark.parametrize("method", METHODS)
def test_merging_helps_by_more_than_two_standard_errors(demo: Demo, method: str) -> None:
    name = f"digits-{method.replace('_', '-')}"
    best = max(PARENTS, key=demo.average)
    variances = [task["stderr"] ** 2 for model in (name, best) for task in demo.results()[model].values()]
    gain = demo.average(name) - demo.average(best)
    assert gain > 2 * np.sqrt(sum(variances)) / 2
    assert f"{name}: +{gain:.3f} ± {np.sqrt(sum(variances)) / 2:.3f}, clearly better" in demo.output


@pytest.mark.real
def test_models_of_other_initialisation_and_width_merge_into_one_that_knows_both_halves(demo: Demo) -> None:
    results = demo.results()
    assert results["digits-high-wide"]["digits-5-9"]["value"] > 0.9
    assert results["digits-high-wide"]["digits-0-4"]["value"] < 0.1
    assert min(task["value"] for task in results["digits-pleas"].values()) > 0.75
    gain = demo.average("digits-pleas") - demo.average("digits-low")
    assert gain > 0.25
    last = demo.output.partition("\nModels that share no ancestor:\n")[2].splitlines()
    assert last[0].startswith("best parent: digits-low, average ")
    assert last[1].startswith(f"digits-pleas: +{gain:.3f} ± ")
    assert last[1].endswith(", clearly better")
    assert last[2].startswith("without any merging: digits-base, average ")
    assert "by-alignment: same architecture, but other" in demo.output
    assert "56 tensors derived again from the models and the calibration data: the same bytes" in demo.output


@pytest.mark.real
def test_the_merge_of_models_of_unlike_width_is_as_wide_as_its_base(demo: Demo) -> None:
    low, wide, merged = (
        json.loads((demo.place / folder / "config.json").read_text())["hidden_sizes"]
        for folder in (
            demo.files.model("digits-low"),
            demo.files.model("digits-high-wide"),
            demo.files.merged("pleas"),
        )
    )
    assert (low, wide, merged) == ([16, 32, 64], [24, 48, 96], [16, 32, 64])


@pytest.mark.real
def test_each_specialist_knows_its_half_and_forgot_the_other(demo: Demo) -> None:
    results = demo.results()
    for specialist, known, forgotten in (
        ("digits-low", "digits-0-4", "digits-5-9"),
        ("digits-high", "digits-5-9", "digits-0-4"),
    ):
        assert results[specialist][known]["value"] > 0.95
        assert results[specialist][forgotten]["value"] < 0.5


@pytest.mark.real
@pytest.mark.parametrize("half", ["low", "high"])
def test_the_reported_accuracy_is_what_transformers_alone_measures_on_the_written_pictures(
    demo: Demo, half: str
) -> None:
    import torch
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    folder = demo.place / demo.files.published
    files = sorted((demo.place / demo.files.pictures / half).glob("*/*.png"))
    inputs = AutoImageProcessor.from_pretrained(folder)(
        [Image.open(file).convert("RGB") for file in files], return_tensors="pt"
    )
    model = AutoModelForImageClassification.from_pretrained(folder)
    with torch.inference_mode():
        answers = [model.config.id2label[int(answer)] for answer in model(**inputs).logits.argmax(-1)]
    right = [answer == file.parent.name for answer, file in zip(answers, files, strict=True)]
    reported = demo.results()["digits-task-arithmetic"][{"low": "digits-0-4", "high": "digits-5-9"}[half]]
    assert reported["n"] == len(files)
    # one picture may fall on the other side when sums are taken in batches of another size
    assert reported["value"] == pytest.approx(np.mean(right), abs=1.01 / len(files))


@pytest.mark.real
@pytest.mark.parametrize("method", METHODS)
def test_running_statistics_are_averaged_and_counters_take_the_largest(demo: Demo, method: str) -> None:
    from safetensors.numpy import load_file

    low, high, merged = (
        load_file(demo.place / folder / "model.safetensors")
        for folder in (demo.files.model("digits-low"), demo.files.model("digits-high"), demo.files.merged(method))
    )
    statistics = [name for name in merged if "running_" in name]
    counters = [name for name in merged if name.endswith("num_batches_tracked")]
    assert statistics
    assert counters
    for name in statistics:
        np.testing.assert_allclose(merged[name], (low[name] + high[name]) / 2, rtol=1e-6, atol=1e-7)
    for name in counters:
        assert merged[name] == max(low[name], high[name])


@pytest.mark.real
def test_the_demo_ends_with_the_table_and_the_path_of_a_card_that_is_there(demo: Demo) -> None:
    last = demo.output.rstrip().splitlines()[-1]
    card = demo.place / last.split("The card: ")[1]
    assert card == demo.place / "hubmerge-demo/published/digits-task-arithmetic/README.md"
    assert "base_model_relation: merge" in card.read_text()
    closing = demo.output.partition("== Accuracy on held-out pictures")[2].splitlines()
    assert closing[1].split("  ")[0] == "model"
    assert [line.split()[0] for line in closing[2:12]] == list(demo.results())


@pytest.mark.real
@pytest.mark.parametrize("recipe", sorted(path.name for path in (REPOSITORY / "examples" / "recipes").iterdir()))
def test_the_example_recipes_merge_what_the_demo_left(demo: Demo, recipe: str) -> None:
    ended = _run(
        "-m", "hubmerge", "merge", str(REPOSITORY / "examples" / "recipes" / recipe), f"mine/{recipe}", cwd=demo.place
    )
    assert ended.returncode == 0, ended.stderr
    assert (demo.place / "mine" / recipe / "model.safetensors").is_file()


@pytest.mark.real
def test_the_python_example_runs(demo: Demo) -> None:
    ended = _run(str(REPOSITORY / "examples" / "merge_digits.py"), cwd=demo.place)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith("ResNetForImageClassification knows the digits 0, 1, 2, 3, 4, 5, 6, 7, 8, 9\n")


@pytest.mark.real
def test_a_second_run_trains_the_same_models_uses_the_edited_recipe_and_stops_at_its_fault(demo: Demo) -> None:
    weights = demo.place / demo.files.model("digits-low") / "model.safetensors"
    before = weights.read_bytes()
    recipe = demo.place / demo.files.recipe("slerp")
    recipe.write_text(recipe.read_text().replace("t: 0.5", "tt: 0.5"))
    note = demo.place / "hubmerge-demo" / "notes.txt"
    note.write_text("the user's")
    ended = _run("-m", "hubmerge", "demo", cwd=demo.place)
    assert ended.returncode == 1
    assert "hubmerge-demo/recipes/slerp.yaml was edited and is used as it is" in ended.stdout
    assert "'tt'" in ended.stderr
    assert ended.stderr.endswith("the demo stops here: `hubmerge merge` ended with exit code 1\n")
    assert weights.read_bytes() == before
    assert note.read_text() == "the user's"
    assert "tt: 0.5" in recipe.read_text()
