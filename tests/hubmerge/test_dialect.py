"""YAML as people write recipes, and as nobody should."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubmerge.dialect import MAX_CHARACTERS, MAX_VALUES, read_yaml, read_yaml_file
from hubmerge.errors import RecipeError


def refusal(text: str) -> str:
    with pytest.raises(RecipeError) as refused:
        read_yaml(text, "r.yaml")
    return str(refused.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), ("5e-1", 0.5), ("1e-10", 1e-10), ("1E+2", 100.0), ("+1", 1), ("-.5", -0.5), (".5e1", 5.0),
     ("0.7", 0.7), ('"0.7"', "0.7"), ("1_000", 1000), ("yes", True), ("off", False), ("~", None), ("", None),
     ("1e", "1e"), ("e5", "e5"), ("2020-01-01", "2020-01-01"), ("=", "=")],
)  # fmt: skip
def test_numbers_are_those_of_yaml_1_2_and_words_those_of_1_1(text: str, value: object) -> None:
    read = read_yaml(f"x: {text}", "r.yaml")["x"]
    assert read == value
    assert type(read) is type(value)


def test_json_comments_document_marks_and_flow_style_are_read() -> None:
    assert read_yaml('{"a": [1, {"b": null}]}', "") == {"a": [1, {"b": None}]}
    assert read_yaml("---\na: [1, 2] # two\n...\n", "") == {"a": [1, 2]}
    assert read_yaml("\ufeffa: 1", "") == {"a": 1}
    assert read_yaml("# nothing\n", "") is None


def test_anchors_and_merge_keys_are_written_out() -> None:
    text = "a: &x {weight: 0.5, density: 1}\nb: *x\nc:\n  <<: *x\n  weight: 0.7\nd: {<<: [*x, {k: 1}]}\n"
    x = {"weight": 0.5, "density": 1}
    assert read_yaml(text, "") == {"a": x, "b": x, "c": {**x, "weight": 0.7}, "d": {**x, "k": 1}}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: 1\nb: 2\na: 3", "key 'a' occurs twice, on lines 1 and 3 · r.yaml · keep one of them"),
        ("x:\n- k: 1\n  'k': 2", "key 'k' occurs twice, on lines 2 and 3 · r.yaml · keep one of them"),
        ("a:\n\tb: 1", "a tab cannot indent YAML · r.yaml:2:1 · indent with spaces"),
        (
            "a: 1\n---\na: 2",
            ("a second document begins here · r.yaml:2:1 · one file holds one; split it at ---, merge them in turn, "
            "and name an OUT as a model"),
        ),
        ("? [1]\n: 2", "a key is a word, not a list or a mapping · r.yaml:1:3 · check the colons and brackets"),
        ("a: &x [*x]", "an anchor refers to itself · r.yaml:1:4 · write the value out"),
        ("&x\na: *x", "an anchor refers to itself · r.yaml:1:1 · write the value out"),
        ("a: !!python/object/apply:os.system [ls]",
         "the tag !!python/object/apply:os.system is not read · r.yaml:1:4 · write a plain value"),
        ("a: !!binary aGk=", "the tag !!binary is not read · r.yaml:1:4 · write a plain value"),
        ("a: !env HOME", "the tag !env is not read · r.yaml:1:4 · write a plain value"),
        ('a: "\\ud800"', "half a surrogate pair is no character · r.yaml:1:4 · write the character itself"),
        ("a: b: c", "not valid YAML: mapping values are not allowed here · r.yaml:1:5 · check indentation, colons and quotes"),
        ('a: "b', "not valid YAML: found unexpected end of stream · r.yaml:1:6 · check indentation, colons and quotes"),
        ("a: *b", "not valid YAML: found undefined alias 'b' · r.yaml:1:4 · check indentation, colons and quotes"),
        ("a: \0", "not valid YAML: special characters are not allowed · r.yaml · check indentation, colons and quotes"),
        ("<<: 5", ("not valid YAML: expected a mapping or list of mappings for merging, but found scalar · r.yaml:1:5 · "
                   "check indentation, colons and quotes")),
        ("[" * 5000, "values are nested too deeply · r.yaml · make it flatter"),
    ],
)  # fmt: skip
def test_each_fault_says_what_and_where(text: str, fault: str) -> None:
    assert refusal(text) == fault


def test_a_number_of_five_thousand_digits_is_refused() -> None:
    assert refusal("a: " + "9" * 5000).startswith("not valid YAML: Exceeds the limit (4300 digits)")


@pytest.mark.parametrize("place", ["defaults", ".shared", "x-weights", "anchors"])
@pytest.mark.parametrize("used", ["<<: *small", "weight: *number"])
def test_a_key_that_is_there_for_its_anchors_is_left_out(place: str, used: str) -> None:
    text = f"{place}: &small {{weight: &number 0.1}}\nmodels: [{{model: a, parameters: {{{used}}}}}]\n"
    models = [{"model": "a", "parameters": {"weight": 0.1}}]
    assert read_yaml(text, "r.yaml", {"models", "parameters"}) == {"models": models}
    assert read_yaml(text, "r.yaml") == {place: {"weight": 0.1}, "models": models}


@pytest.mark.parametrize(
    "text",
    [
        "x: &a {weight: 0.1}\nmodels: []",  # no alias repeats it
        "x: {weight: 0.1}\nmodels: [0.1, {weight: 0.1}]",  # nor are equal values repetitions
        "x: [&a 0.1, *a]\nmodels: []",  # none elsewhere
        "paramters: &a {weight: 0.1}\nmodels: [*a]",  # a slip
        "parameters: &a {weight: 0.1}\nmodels: [*a]\nx: *a",  # the alias, not the anchor
        "parameters: &a {weight: 0.1}\nmodels: [*a]",  # it has a meaning
    ],
)
def test_any_other_key_stays(text: str) -> None:
    keys = [line.split(":", maxsplit=1)[0] for line in text.splitlines()]
    assert list(read_yaml(text, "r.yaml", {"models", "parameters"})) == keys


@pytest.mark.parametrize("line", ["x{i}: &x{i} [{ten}]", "x{i}: &x{i} {{<<: [{ten}]}}"])
def test_ten_lines_of_anchors_that_stand_for_billions_of_values_are_refused_at_once(line: str) -> None:
    text = "x0: &x0 {a: 1}\n"
    for i in range(1, 11):
        text += line.format(i=i, ten=", ".join([f"*x{i - 1}"] * 10)) + "\n"
    begun = time.perf_counter()
    # 111,111 values first: x4 stands for 10 of x3, and so on; whichever line passes the limit is named
    assert refusal(text).startswith(f"its anchors stand for more than {MAX_VALUES:,} values · r.yaml:")
    assert time.perf_counter() - begun < 2


def test_a_text_as_long_as_a_book_is_not_parsed() -> None:
    assert refusal("a: 1\n" * MAX_CHARACTERS) == (
        f"the text has {5 * MAX_CHARACTERS:,} characters, at most 500,000 are read · r.yaml · is this the right file?"
    )


def test_files_that_cannot_be_recipes_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bytes").write_bytes(b"\xff\xfe\x00\x01")
    Path("good.yaml").write_text("a: 1")

    def fault(name: str) -> str:
        with pytest.raises(RecipeError) as refused:
            read_yaml_file(Path(name))
        return str(refused.value)

    assert fault("nothing.yaml") == f"no such recipe file · nothing.yaml · looked from {tmp_path}"
    assert fault(".") == "this is a folder · . · name the YAML file in it"
    assert fault("bytes") == "this is not UTF-8 text · bytes · name a YAML file"
    assert fault("good.yaml/x") == "the recipe cannot be read (Not a directory) · good.yaml/x · name a YAML file"
    assert fault("n" * 300) == f"the recipe cannot be read (File name too long) · {'n' * 300} · name a YAML file"
    assert read_yaml_file(Path("good.yaml")) == {"a": 1}


@given(st.text(max_size=200))
def test_any_text_is_a_value_or_one_fault_with_a_hint(text: str) -> None:
    try:
        read_yaml(text, "r.yaml")
        fault = None
    except RecipeError as refused:
        fault = refused
    assert fault is None or (fault.where.startswith("r.yaml") and fault.hint and fault.faults == (fault,))
