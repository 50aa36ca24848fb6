"""What groups of a drafted table are called: by their part in attention, by what they are given from, by the module that writes them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

from hubmerge.symmetry.draft_kin import Kin, Kindred
from hubmerge.symmetry.draft_trace import Traced
from hubmerge.symmetry.groups import Kind, Role

__all__ = ["fixed_name", "modules_of", "name_of", "unused"]

_PLAIN = frozenset(
    {
        "weight",
        "bias",
        "dense",
        "layer",
        "layers",
        "proj",
        "projection",
        "linear",
        "lin",
        "conv",
        "convolution",
        "block",
        "stages",
        "encoder",
        "decoder",
        "normalization",
    }
)
_LETTERS = re.compile(r"[^a-z_]+")


def modules_of(kindred: Kindred, kin: Kin) -> tuple[str, ...]:
    """The names of the rows that the kin stand in, without those of tensors."""
    return tuple(dict.fromkeys(kindred.rows[slot.row].name.rpartition(".")[0] for slot in kin.slots))


def name_of(traced: Traced, kindred: Kindred, number: int, largest: int) -> str:
    """A name without digits, that others may have too.  largest: the number of the kin that stand in most rows."""
    kin = kindred.kin[number]
    if number == largest:
        return "res"
    depths = {(slot.factor, len(_segment(traced, kindred, kin, place))) for place, slot in enumerate(kin.slots)}
    if any(number == other.outer for other in kindred.kin.values()):
        return "kv" if (0, 3) in depths else "head"
    if (1, 3) in depths:
        return "query"
    if kin.outer is not None:
        seconds = {
            (name, slot.axis, index)
            for slot in kin.slots
            for name, _ in kindred.rows[slot.row].tensors
            for index in kin.indices
        }
        return "qk" if seconds & traced.seconds else "value"
    writers = [slot for slot in kin.slots if kindred.role(traced, slot) is not Role.READS]
    return _word(kindred.rows[(writers or kin.slots)[0].row].name)


def _segment(traced: Traced, kindred: Kindred, kin: Kin, place: int) -> tuple[int, ...]:
    slot = kin.slots[place]
    return traced.axes[kindred.rows[slot.row].tensors[0][0]][slot.axis][slot.segment]


def _word(row: str) -> str:
    parts = [_LETTERS.sub("", part.lower()).strip("_") for part in row.split(".") if "{" not in part]
    return next((part for part in reversed(parts) if part and part not in _PLAIN), "unit")


def fixed_name(size: str, *, inside: bool) -> tuple[str, Kind]:
    """The name and the kind of what stays as it is, by the expression of its size.  inside: it is a factor inside another."""
    if re.fullmatch(r"(\w+\.)?vocab_size", size):
        return "token", Kind.TOKENS
    if size == "num_labels":
        return "label", Kind.LABELS
    if "position" in size or "image_size" in size or "n_ctx" in size:
        return "position", Kind.POSITIONS
    if inside:
        return "inner", Kind.FIXED
    found = re.search(r"[a-z_]+", size.rpartition(".")[2])
    return (found[0].removeprefix("num_").removesuffix("_size").strip("_") if found else "fixed"), Kind.FIXED


def unused(name: str, taken: Collection[str] | Mapping[str, object]) -> str:
    """`name`, or with a letter behind it where that is taken."""
    return next(each for each in _with_letters(name) if each not in taken)


def _with_letters(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}_{letter}" for letter in "bcdefghijkmnopqrstuvwxyz")
    yield from (f"{name}_{one}{two}" for one in "abcdefghijk" for two in "abcdefghijk")
