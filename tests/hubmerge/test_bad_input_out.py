"""Where a merge may not be written.  A parent survives whatever is asked."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from bad.models import LINEAR, faults_of, hubmerge, llama, lora, state_of

from hubmerge import merge
from zoo_index.errors import HubmergeError

TOUCH = "which a merge must not touch"


@pytest.fixture(autouse=True)
def two_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    llama(Path("a"), 1)
    llama(Path("b"), 2)


def refusal(out: str, recipe: Any = LINEAR, **options: Any) -> str:
    """The one fault of a merge into `out`, which leaves everything as it was, also above the current folder."""
    before = state_of(Path("..").resolve())
    with pytest.raises(HubmergeError) as refused:
        merge(recipe, out, **options)
    assert state_of(Path("..").resolve()) == before
    (fault,) = faults_of(refused.value)
    return fault


@pytest.mark.parametrize(
    "force", [{}, {"overwrite": True, "fresh": True}], ids=["plainly", "with --overwrite and --fresh"]
)
@pytest.mark.parametrize(
    ("out", "what"),
    [
        ("a", "a is the parent ./a"),
        ("./b/", "b is the parent ./b"),
        ("../work/a", "../work/a is the parent ./a"),
        ("a/out", "a/out lies inside the parent ./a"),
        ("a/x/y", "a/x/y lies inside the parent ./a"),
        ("../work", "../work holds the parent ./a"),
    ],
)
def test_a_parent_is_never_written_to(out: str, what: str, force: dict[str, bool]) -> None:
    assert refusal(out, **force) == f"{what}, {TOUCH} · {Path(out)} · choose another OUT"


def test_a_merge_that_is_a_parent_of_the_next_is_not_overwritten() -> None:
    merge(LINEAR, "first")
    recipe = {"merge_method": "linear", "models": [{"model": "./first"}, {"model": "./b"}]}
    assert (
        refusal("first", recipe, overwrite=True) == f"first is the parent ./first, {TOUCH} · first · choose another OUT"
    )


def test_a_parent_inside_a_merge_is_not_overwritten_with_it() -> None:
    merge(LINEAR, "first")
    shutil.copytree("b", "first/kept")
    recipe = {"merge_method": "linear", "models": [{"model": "./a"}, {"model": "./first/kept"}]}
    assert (
        refusal("first", recipe, overwrite=True)
        == f"first holds the parent ./first/kept, {TOUCH} · first · choose another OUT"
    )


def test_a_parent_where_an_older_out_would_be_put_aside_is_safe() -> None:
    aside = Path(".out.hubmerge-replaced")
    Path("b").rename(aside)
    recipe = {"merge_method": "linear", "models": [{"model": "./a"}, {"model": f"./{aside}"}]}
    assert refusal("out", recipe) == f"{aside} is the parent ./{aside}, {TOUCH} · out · choose another OUT"


def test_an_adapter_is_as_safe_as_a_model() -> None:
    lora(Path("l"))
    recipe = {"merge_method": "passthrough", "models": [{"model": "./a+./l"}]}
    assert refusal("l", recipe, overwrite=True) == f"l is the parent ./l, {TOUCH} · l · choose another OUT"


def test_a_parent_that_is_called_like_unfinished_work_is_safe() -> None:
    Path("b").rename("x.partial")
    recipe = {"merge_method": "linear", "models": [{"model": "./a"}, {"model": "./x.partial"}]}
    assert refusal("x", recipe, fresh=True) == f"x.partial is the parent ./x.partial, {TOUCH} · x · choose another OUT"


def test_links_are_followed_to_the_parent_they_lead_to() -> None:
    Path("link").symlink_to("a")
    assert (
        refusal("link", overwrite=True)
        == f"{Path('a').resolve()} is the parent ./a, {TOUCH} · {Path('a').resolve()} · choose another OUT"
    )
    assert refusal("link/out") == f"link/out lies inside the parent ./a, {TOUCH} · link/out · choose another OUT"


@pytest.mark.parametrize("out", [".", "..", "/", "./"])
def test_a_place_that_has_no_name_is_no_out(out: str) -> None:
    assert (
        refusal(out, overwrite=True)
        == f"OUT is {Path(out)}, which cannot be replaced · {Path(out)} · name a new folder"
    )


def test_what_is_no_merge_is_never_replaced() -> None:
    Path("file").write_text("x")
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("x")
    for force in ({}, {"overwrite": True}):
        hint = "choose another OUT; only a merge can be overwritten"
        assert refusal("file", **force) == f"file exists and is a file · file · {hint}"
        assert refusal("mine", **force) == f"mine exists and is a folder that is no merge · mine · {hint}"


def test_a_place_where_nothing_can_be_made_is_refused() -> None:
    Path("file").write_text("x")
    (fault, *_) = refusal("file/out").split(" · ")
    assert fault == "file/out.partial cannot be created (Not a directory)"


def test_a_device_is_no_folder() -> None:
    assert (
        refusal("/dev/full")
        == "/dev/full exists and is a file · /dev/full · choose another OUT; only a merge can be overwritten"
    )


def test_a_name_that_no_folder_can_have_is_refused_before_any_work() -> None:
    name = "n" * 231
    assert refusal(f"new/{name}") == (
        f"OUT's name has 231 bytes, at most 230 are taken · 'new/{'n' * 72}... · choose a shorter one"
    )


def test_the_longest_name_works() -> None:
    for _ in range(2):
        merge(LINEAR, "n" * 230, overwrite=True)
    assert sorted(path.name for path in Path().iterdir()) == ["a", "b", "n" * 230]


def test_a_mount_point_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("volume").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda self: self.name == "volume")
    assert refusal("volume") == (
        "volume is a mount point, which cannot be renamed · volume · name a new folder in it: volume/merged"
    )


def test_an_empty_folder_is_filled() -> None:
    Path("empty").mkdir()
    merge(LINEAR, "empty")
    assert Path("empty/model.safetensors").is_file()


def test_the_recipe_survives_the_merge_it_lies_in(capsys: pytest.CaptureFixture[str]) -> None:
    merge(LINEAR, "out")
    Path("out/recipe.yaml").write_text("merge_method: linear\nmodels: [{model: ./a}, {model: ./b}]\ndtype: bfloat16\n")
    assert hubmerge("merge", "out/recipe.yaml", "out", "--overwrite") == 1
    assert capsys.readouterr().err == (
        "error: the recipe lies in out, which is to be replaced · out/recipe.yaml · move it out, or choose another OUT\n"
    )


def test_links_in_a_circle_are_told_when_an_older_out_may_be_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    Path("one").symlink_to("two")
    Path("two").symlink_to("one")
    assert hubmerge("merge", "one", "out", "--overwrite") == 1
    assert capsys.readouterr().err == (
        "error: the recipe cannot be read (Too many levels of symbolic links) · one · name a YAML file\n"
    )
    Path("recipe.yaml").write_text("merge_method: linear\nmodels: [{model: ./a}, {model: ./b}]\n")
    assert hubmerge("merge", "recipe.yaml", "one", "--overwrite") == 1
    assert capsys.readouterr().err == (
        "error: OUT cannot be there (Too many levels of symbolic links) · 'one' · choose another OUT\n"
    )
