"""Chat templates: what a recipe's `chat_template` means, and the built-in ones, written from the formats' own descriptions."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from hubmerge.errors import RecipeError
from zoo_index.source import ModelSource

__all__ = [
    "BUILT_IN",
    "STALE_TEMPLATES",
    "TEMPLATE_FILE",
    "commonest_template",
    "read_template",
    "template_fault",
    "template_files",
    "unknown_markers",
]

TEMPLATE_FILE = "chat_template.jinja"
STALE_TEMPLATES = (TEMPLATE_FILE, "chat_template.json")
"""Where a donor may have another template."""

_ALPACA = (
    "{%- set preamble = 'Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.' %}"
    "{%- if messages[0].role == 'system' %}{%- set preamble = messages[0].content %}{%- endif %}"
    "{{- preamble ~ '\\n\\n' }}"
    "{%- for message in messages %}"
    "{%- if message.role == 'user' %}{{- '### Instruction:\\n' ~ message.content ~ '\\n\\n' }}"
    "{%- elif message.role == 'assistant' %}{{- '### Response:\\n' ~ message.content ~ eos_token ~ '\\n\\n' }}"
    "{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '### Response:\\n' }}{%- endif %}"
)
_CHATML = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
_EXAONE = (
    "{%- if messages[0].role != 'system' %}{{- '[|system|][|endofturn|]\\n' }}{%- endif %}"
    "{%- for message in messages %}"
    "{{- '[|' ~ message.role ~ '|]' ~ message.content }}"
    "{{- '\\n' if message.role == 'user' else '[|endofturn|]\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '[|assistant|]' }}{%- endif %}"
)
_LLAMA3 = (
    "{{- bos_token }}"
    "{%- for message in messages %}"
    "{{- '<|start_header_id|>' ~ message.role ~ '<|end_header_id|>\\n\\n' ~ message.content | trim ~ '<|eot_id|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"
)
_MISTRAL = (
    "{{- bos_token }}"
    "{%- set opening = namespace(text='') %}"
    "{%- for message in messages %}"
    "{%- if message.role == 'system' %}{%- set opening.text = message.content ~ '\\n\\n' %}"
    "{%- elif message.role == 'user' %}"
    "{{- '[INST] ' ~ opening.text ~ message.content ~ ' [/INST]' }}{%- set opening.text = '' %}"
    "{%- else %}{{- ' ' ~ message.content ~ eos_token }}{%- endif %}"
    "{%- endfor %}"
)
BUILT_IN = {"alpaca": _ALPACA, "chatml": _CHATML, "exaone": _EXAONE, "llama3": _LLAMA3, "mistral": _MISTRAL}
"""Name -> Jinja template, for transformers' `apply_chat_template`.

Sources: Stanford Alpaca's prompts; OpenAI's ChatML (system, user and assistant between ``<|im_start|>`` and
``<|im_end|>``); the prompt formats in the cards of EXAONE 3, Llama 3 and Mistral 7B Instruct.
"""

_INLINE = re.compile(r"\{[{%]")
_OWN_TAGS = ("generation", "endgeneration")  # transformers' addition to Jinja
_MARKER = re.compile(r"<\|[^|<>{}'\"\s]+\|>|\[\|[^|\[\]{}'\"\s~]+\|\]")


def template_fault(value: str) -> RecipeError | None:
    """What is wrong with a recipe's `chat_template`; None for ``auto``, a built-in name and Jinja that can be parsed."""
    if value == "auto" or value in BUILT_IN:
        return None
    if not _INLINE.search(value):
        close = get_close_matches(value, [*BUILT_IN, "auto"], n=1)
        known = f"auto, {', '.join(BUILT_IN)}, or a Jinja template"
        return RecipeError(
            f"there is no built-in chat template {value!r}" if value else "the chat template is empty",
            where="chat_template",
            hint=f"did you mean {close[0]}?" if close else f"write {known}",
        )
    import jinja2

    try:
        jinja2.Environment(extensions=["jinja2.ext.loopcontrols"], autoescape=False).parse(value)  # noqa: S701 - not rendered
    except jinja2.TemplateSyntaxError as error:
        if not any(f"'{tag}'" in str(error.message) for tag in _OWN_TAGS):
            return RecipeError(
                f"the chat template is no Jinja: {error.message} (line {error.lineno})",
                where="chat_template",
                hint="mend it, or name a built-in one: " + ", ".join(BUILT_IN),
            )
    return None


def read_template(source: ModelSource) -> str | None:
    """A model's own chat template, from where transformers looks for it; None when it has none that can be read."""
    files = source.files()
    if TEMPLATE_FILE in files:
        return source.read(TEMPLATE_FILE).decode("utf-8", errors="replace")
    for name in ("chat_template.json", "tokenizer_config.json"):
        if name in files:
            found = (_object(source, name) or {}).get("chat_template")
            if isinstance(found, list):  # several by name; "default" is the one that chats use
                rows = [row for row in found if isinstance(row, dict)]
                found = next((row.get("template") for row in rows if row.get("name") == "default"), None)
            if isinstance(found, str) and found:
                return found
    return None


def template_files(wish: str, sources: Sequence[ModelSource], settings: Mapping[str, Any]) -> dict[str, str] | None:
    """The files to write for a recipe's `chat_template`; None when it is ``auto`` and no model has a template.

    sources: the models, the one whose tokenizer is taken first.  settings: the tokenizer_config.json of the merge so far,
    which is written again when it has a template of its own.
    """
    template = BUILT_IN.get(wish, wish)
    if wish == "auto":
        found = commonest_template([read_template(source) for source in sources])
        if found is None:
            return None
        template = found
    files = {TEMPLATE_FILE: template}
    if settings.get("chat_template") is not None:
        kept = {key: value for key, value in settings.items() if key != "chat_template"}
        files["tokenizer_config.json"] = json.dumps(kept, ensure_ascii=False, indent=2) + "\n"
    return files


def _object(source: ModelSource, name: str) -> dict[str, Any] | None:
    try:
        raw = json.loads(source.read(name).decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return raw if isinstance(raw, dict) else None


def commonest_template(templates: Sequence[str | None]) -> str | None:
    """The template that most models have, of equally common ones the first's; None when none has one."""
    counts = Counter(template for template in templates if template)
    return max(counts, key=lambda template: counts[template], default=None)


def unknown_markers(template: str, tokens: Collection[str]) -> tuple[str, ...]:
    """Markers like ``<|im_start|>`` that a template writes and that are no token: the model would read them in pieces."""
    return tuple(dict.fromkeys(marker for marker in _MARKER.findall(template) if marker not in tokens))
