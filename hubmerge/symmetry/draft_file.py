"""A family's table as a Python file, and such a file read as data: nothing in it is run."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from textwrap import indent
from typing import Any

from hubmerge.symmetry.errors import SymmetryError
from hubmerge.symmetry.notation import parse_axes, parse_table
from zoo_index.families import Family

__all__ = ["family_file", "read_family", "write_family"]

_HINT = "a table is a file as `hubmerge symmetry draft` writes it; see zoo_index/families/family.py"
_FIELDS = (
    "name",
    "model_types",
    "loops",
    "prefix",
    "bodies",
    "output",
    "defaults",
    "aliases",
    "config_key",
    "requires",
)


def family_file(family: Family, about: str) -> str:
    """The text of the file of a family, as they stand in ``zoo_index/families``.  about: one line for its first."""
    constant = f"_{re.sub(r'[^A-Z0-9]', '_', family.name.upper())}"
    plain = Family(name="", model_types=(), loops={}, groups="", tensors="")
    told = [
        f"    {name}={getattr(family, name)!r},"
        for name in _FIELDS
        if name in {"name", "model_types", "loops"} or getattr(family, name) != getattr(plain, name)
    ]
    blocks = [f'    {name}="""\n{indent(getattr(family, name), " " * 8)}\n    """,' for name in ("groups", "tensors")]
    lines = [
        f'"""{about}"""',
        "",
        "from __future__ import annotations",
        "",
        "from zoo_index.families.family import Family",
        "",
        '__all__ = ["FAMILIES"]',
        "",
        f"{constant} = Family(",
        *told,
        *blocks,
        ")",
        "",
        f"FAMILIES = ({constant},)",
    ]
    return "\n".join(lines) + "\n"


def write_family(path: Path, text: str) -> None:
    """A new file with this text; `SymmetryError` where there is one, or none can be written."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise SymmetryError(
            f"the table cannot be written ({error.strerror or error})", where=str(path), hint="name a new file"
        ) from error


def read_family(path: Path) -> Family:
    """The first family of a file that `family_file` could have written.

    The file is not run: its one call of `Family` is read with literals for arguments.  Raises `SymmetryError` for a file that cannot be
    read, has no such call, or a table that is not in the notation.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError) as error:
        why = getattr(error, "strerror", None) or error
        raise SymmetryError(f"the table cannot be read ({why})", where=str(path), hint=_HINT) from error
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "Family")
    call = next(calls, None)
    if call is None:
        raise SymmetryError("no Family is in the file", where=str(path), hint=_HINT)
    try:
        given: dict[str, Any] = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
        family = Family(**given)
        _check(family)
    except Exception as error:  # whatever the text of a table may have wrong
        raise SymmetryError(
            f"the table is not in the notation ({type(error).__name__}: {error})", where=str(path), hint=_HINT
        ) from error
    return family


def _check(family: Family) -> None:
    """Raise an error for rows that cannot be read, and for expressions that no table has."""
    table = parse_table(family)
    expressions = [*family.loops.values(), family.requires]
    filled = [family.output]
    for group in table.groups:
        expressions += [group.size, group.condition]
        filled.append(group.name)
    expressions += [pair.condition for pair in (*table.same, *table.tied)]
    for tensor in table.tensors:
        parse_axes(tensor.axes)
        expressions.append(tensor.condition)
        filled += [tensor.name, tensor.axes or ""]
    expressions += [inner for text in filled for inner in re.findall(r"\{([^{}]+)\}", text)]
    for text in expressions:
        _check_expression(text)


_ALLOWED = (
    ast.Expression, ast.Constant, ast.Name, ast.Attribute, ast.Subscript, ast.Call, ast.UnaryOp, ast.Not, ast.BoolOp, ast.And,
    ast.Or, ast.Compare, ast.Eq, ast.NotEq, ast.Gt, ast.In, ast.NotIn, ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod,
    ast.Load,
)  # fmt: skip


def _check_expression(text: str) -> None:
    for node in ast.walk(ast.parse(text, mode="eval")):
        if not isinstance(node, _ALLOWED) or (isinstance(node, ast.Call) and ast.unparse(node.func) != "len"):
            raise ValueError(f"{text!r} is no expression of a table")
