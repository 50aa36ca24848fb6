"""Chat templates: the built-in ones rendered, the models' own counted, faults told before anything is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
import pytest
from vocabularies import word_model

from hubmerge import build_plan, merge
from hubmerge.chat_template import BUILT_IN, commonest_template, template_fault, unknown_markers
from hubmerge.errors import PlanError

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
]


def rendered(name: str, messages: list[dict[str, str]], *, ask: bool = True) -> str:
    template = jinja2.Environment(autoescape=False).from_string(BUILT_IN[name])
    return template.render(messages=messages, add_generation_prompt=ask, bos_token="<s>", eos_token="</s>")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "chatml",
            (
                "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
                "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
            ),
        ),
        (
            "llama3",
            (
                "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
                "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>"
                "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
            ),
        ),
        ("mistral", "<s>[INST] Be brief.\n\nHi [/INST] Hello</s>[INST] Bye [/INST]"),
        (
            "alpaca",
            "Be brief.\n\n### Instruction:\nHi\n\n### Response:\nHello</s>\n\n### Instruction:\nBye\n\n### Response:\n",
        ),
        (
            "exaone",
            "[|system|]Be brief.[|endofturn|]\n[|user|]Hi\n[|assistant|]Hello[|endofturn|]\n[|user|]Bye\n[|assistant|]",
        ),
    ],
)
def test_a_built_in_template_writes_a_talk_as_its_format_says(name: str, text: str) -> None:
    assert rendered(name, TALK) == text


def test_without_a_system_message_the_formats_have_their_own_beginning() -> None:
    talk = TALK[1:2]
    assert rendered("alpaca", talk, ask=False) == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nHi\n\n"
    )
    assert rendered("exaone", talk, ask=False) == "[|system|][|endofturn|]\n[|user|]Hi\n"
    assert rendered("mistral", talk, ask=False) == "<s>[INST] Hi [/INST]"


@pytest.mark.parametrize("value", ["auto", *BUILT_IN, "{{ messages }}", "{% for m in messages %}{% break %}{% endfor %}",
                                   "{% generation %}{{ messages }}{% endgeneration %}"])  # fmt: skip
def test_names_and_jinja_are_taken(value: str) -> None:
    assert template_fault(value) is None


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (
            "vicuna",
            (
                "there is no built-in chat template 'vicuna' · chat_template · "
                "write auto, alpaca, chatml, exaone, llama3, mistral, or a Jinja template"
            ),
        ),
        ("chat_ml", "there is no built-in chat template 'chat_ml' · chat_template · did you mean chatml?"),
        (
            "",
            (
                "the chat template is empty · chat_template · "
                "write auto, alpaca, chatml, exaone, llama3, mistral, or a Jinja template"
            ),
        ),
        (
            "{% if x %}",
            (
                "the chat template is no Jinja: Unexpected end of template. Jinja was looking for the following tags: "
                "'elif' or 'else' or 'endif'. The innermost block that needs to be closed is 'if'. (line 1) · chat_template · "
                "mend it, or name a built-in one: alpaca, chatml, exaone, llama3, mistral"
            ),
        ),
    ],
)
def test_anything_else_is_a_fault(value: str, fault: str) -> None:
    assert str(template_fault(value)) == fault


def test_the_commonest_template_wins_and_of_equally_common_ones_the_firsts() -> None:
    assert commonest_template([None, "P", "Q", "Q"]) == "Q"
    assert commonest_template(["P", None, "Q"]) == "P"
    assert commonest_template([None, None]) is None


def test_markers_that_are_no_tokens_are_found() -> None:
    assert unknown_markers(BUILT_IN["chatml"], {"<|im_start|>"}) == ("<|im_end|>",)
    assert unknown_markers(BUILT_IN["mistral"], ()) == ()


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """a has no template, b one in its settings, c another in its own file, d the same."""
    monkeypatch.chdir(tmp_path)
    settings = {
        "chat_template": [{"name": "rag", "template": "R"}, {"name": "default", "template": "B"}],
        "eos_token": "</s>",
    }
    files = {
        "a": {"tokenizer_config.json": "{}"},
        "b": {"tokenizer_config.json": json.dumps(settings)},
        "c": {"chat_template.jinja": "C {{ messages }}"},
        "d": {"chat_template.json": json.dumps({"chat_template": "C {{ messages }}"})},
    }
    for name, own in files.items():
        word_model(Path(name), ["<unk>", "x"], 1, files=own)
    weight = {"parameters": {"weight": 1}}
    return {"merge_method": "linear", "models": [{"model": f"./{name}", **weight} for name in files]}


def test_auto_takes_the_template_of_most_models(models: dict[str, Any]) -> None:
    merge({**models, "chat_template": "auto"}, "out", jobs=1)
    assert Path("out/chat_template.jinja").read_text() == "C {{ messages }}"


def test_a_template_replaces_what_the_tokenizer_had(models: dict[str, Any]) -> None:
    models["models"] = [models["models"][1], models["models"][0]]
    merge({**models, "chat_template": "{{ messages[0].content }}"}, "out", jobs=1)
    assert Path("out/chat_template.jinja").read_text() == "{{ messages[0].content }}"
    assert json.loads(Path("out/tokenizer_config.json").read_text()) == {"eos_token": "</s>"}


def test_without_the_key_the_template_goes_along_with_the_tokenizer(models: dict[str, Any]) -> None:
    models["models"] = models["models"][2:]
    assert [file.name for file in build_plan(models).carried] == ["chat_template.jinja", "tokenizer.json"]


def test_auto_without_any_template_and_markers_without_tokens_are_warned_of(models: dict[str, Any]) -> None:
    models["models"] = models["models"][:1]
    assert build_plan({**models, "chat_template": "auto"}).warnings == (
        "chat_template: auto finds none, as no model has a chat template",
    )
    told = "the chat template writes {}, which the tokenizer cuts into pieces; add them under tokenizer: tokens:"
    chatml = {**models, "chat_template": "chatml"}
    assert build_plan(chatml).warnings == (told.format("<|im_start|>, <|im_end|>"),)
    zero = {"source": {"kind": "zero"}}
    assert build_plan({**chatml, "tokenizer": {"tokens": {"<|im_start|>": zero}}}).warnings == (
        told.format("<|im_end|>"),
    )


def test_a_template_without_a_tokenizer_is_refused(models: dict[str, Any]) -> None:
    Path("a/tokenizer.json").unlink()
    Path("a/tokenizer_config.json").unlink()
    models["models"] = models["models"][:1]
    with pytest.raises(PlanError) as caught:
        build_plan({**models, "chat_template": "chatml"})
    assert str(caught.value) == (
        "a chat template belongs to a tokenizer, and none of the models has one · chat_template · "
        "leave it out, or merge models with their tokenizers"
    )
