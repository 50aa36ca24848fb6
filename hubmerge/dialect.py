"""YAML as recipes are written: YAML 1.1 with 1.2's numbers, and no key twice.

YAML 1.1 takes ``1e-3`` for a string and lets a second ``weight:`` silently replace the first.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from hubmerge.errors import RecipeError

__all__ = ["read_yaml", "read_yaml_file"]


class _Loader(yaml.SafeLoader):
    pass


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+\Z"),
    list("-+.0123456789"),
)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    seen: dict[Any, Any] = {}
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key_node.tag != "tag:yaml.org,2002:merge" and isinstance(key, Hashable):
            if key in seen:
                line = key_node.start_mark.line + 1
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} occurs twice", key_node.start_mark
                ) from (
                    RecipeError(f"key {key!r} occurs twice, on lines {seen[key]} and {line}", hint="keep one of them")
                )
            seen[key] = key_node.start_mark.line + 1
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(text: str, where: str) -> Any:
    """The value of one YAML (or JSON) document; `RecipeError` with line and column when it is not one."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - _Loader is a SafeLoader
    except yaml.YAMLError as error:
        if isinstance(error.__cause__, RecipeError):
            fault = error.__cause__
            raise RecipeError(fault.message, where=where, hint=fault.hint) from None
        mark = getattr(error, "problem_mark", None)
        place = f"{where}:{mark.line + 1}:{mark.column + 1}" if mark else where
        raise RecipeError(
            f"not valid YAML: {getattr(error, 'problem', None) or error}",
            where=place,
            hint="check indentation, colons and quotes",
        ) from None


def read_yaml_file(path: Path) -> Any:
    """`read_yaml` of a file; `RecipeError` when it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError("no such recipe file", where=str(path), hint=f"looked from {Path.cwd()}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"the recipe cannot be read ({error})", where=str(path), hint="name a YAML text file"
        ) from None
    return read_yaml(text, str(path))
