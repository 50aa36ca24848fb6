"""Merge recipes that other tools leave behind: ``mergekit_config.yml``, and a recipe printed in a model card.

Only the parents' names are taken out of them; they are strangers' text, and nothing in them is run or opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from zoo_index.errors import HubmergeError
from zoo_index.plain import Json, one_line, plain

__all__ = ["find_recipe", "parse_recipe", "recipe_parents", "trained_from"]

_FENCE = re.compile(r"^(```|~~~)([^`\n]*)\n(.*?)^\1", re.DOTALL | re.MULTILINE)
_TRAINED_FROM = (  # what transformers' Trainer and the Hub's card template write
    re.compile(r"fine-tuned version of \[([\w.-]+(?:/[\w.-]+)?)\]\("),
    re.compile(r"\*\*Finetuned from model(?: \[optional\])? ?:\*\*[ \t]*\[?([\w.-]+/[\w.-]+)", re.IGNORECASE),
)
_MAX_PARENTS = 100


def find_recipe(markdown: str) -> dict[str, Json] | None:
    """The first recipe among a text's fenced blocks; None without one."""
    blocks = ((language.strip().casefold(), block) for _, language, block in _FENCE.findall(markdown))
    told = (block for language, block in blocks if language in {"", "yaml", "yml"} and "merge_method" in block)
    return next((recipe for recipe in map(parse_recipe, told) if recipe), None)


def parse_recipe(text: str) -> dict[str, Json] | None:
    """``{"stages": [...]}`` for YAML whose documents (several for a merge in stages) have a merge_method, else None."""
    import yaml

    try:
        documents = [plain(document) for document in yaml.safe_load_all(text)]
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, HubmergeError):
        return None
    stages: list[Json] = [stage for stage in documents if isinstance(stage, dict) and "merge_method" in stage]
    return {"stages": stages} if stages else None


def recipe_parents(recipe: Mapping[str, Any]) -> tuple[str, ...]:
    """The models that a recipe of `parse_recipe` reads, in its order, each once; a LoRA in ``base+lora`` is one more.

    The results of earlier stages, which later ones name, are not among them.
    """
    stages = recipe.get("stages", ())
    stages = [stage for stage in stages if isinstance(stage, dict)] if isinstance(stages, list) else []
    made = {one_line(stage.get("name")) for stage in stages}
    names = (part.strip() for stage in stages for name in _models(stage) for part in name.split("+"))
    return tuple(dict.fromkeys(name for name in names if name and name not in made))[:_MAX_PARENTS]


def trained_from(markdown: str) -> str | None:
    """The model that a card's text, as common tools write it, says it was trained from; None when it says nothing."""
    found = (pattern.search(markdown) for pattern in _TRAINED_FROM)
    return next((match[1] for match in found if match), None)


def _models(stage: Mapping[str, Any]) -> Iterator[str]:
    for item in _objects(stage.get("models")):
        yield from _name(item.get("model"))
    for item in _in_modules(stage.get("modules"), "models"):
        yield from _name(item.get("model"))
    for part in [*_objects(stage.get("slices")), *_in_modules(stage.get("modules"), "slices")]:
        for source in _objects(part.get("sources")):
            yield from _name(source.get("model"))
    yield from _name(stage.get("base_model"))


def _in_modules(modules: object, form: str) -> Iterator[Mapping[str, Any]]:
    for module in modules.values() if isinstance(modules, dict) else ():
        if isinstance(module, dict):
            yield from _objects(module.get(form))


def _objects(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _name(value: object) -> Iterator[str]:
    """A model is a string, ``{path: ...}`` or ``{model: {path: ...}, lora: {path: ...}}``."""
    if isinstance(value, dict):
        for key in ("model", "path", "lora"):
            yield from _name(value.get(key))
    elif name := one_line(value):
        yield name
