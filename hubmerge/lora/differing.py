"""In what adapters differ, in sentences: ranks, scales, modules, types; and what becomes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from hubmerge.adapter_words import Missing
from hubmerge.lora.headers import AdapterHeader

__all__ = ["differences"]


def differences(
    adapters: Sequence[AdapterHeader], ranks: Mapping[str, Sequence[int | None]], missing: Missing, *, left_out: int
) -> tuple[str, ...]:
    """What is not the same in all adapters.  ranks: of every module that is merged; left_out: how many are not."""
    return tuple(_told(adapters, ranks, missing, left_out))


def _told(
    adapters: Sequence[AdapterHeader], ranks: Mapping[str, Sequence[int | None]], missing: Missing, left_out: int
) -> Iterator[str]:
    own_ranks = [_spread(part.rank for part in adapter.modules.values()) for adapter in adapters]
    if len(set(own_ranks)) > 1:
        yield f"ranks: {_each(adapters, own_ranks)}"
    scales = [_spread(part.scale for part in adapter.modules.values()) for adapter in adapters]
    if len(set(scales)) > 1:
        yield f"scales of B @ A: {_each(adapters, scales)}; they are multiplied into B"
    stabilised = [bool(adapter.config.get("use_rslora")) for adapter in adapters]
    if len(set(stabilised)) > 1:
        yield f"rsLoRA: {_each(adapters, ['yes' if each else 'no' for each in stabilised])}; the scales have it in them"
    types = [", ".join(dtype.torch_name for dtype in adapter.table.dtypes) for adapter in adapters]
    if len(set(types)) > 1:
        yield f"types: {_each(adapters, types)}; all are read as float32"
    partial = sum(None in own for own in ranks.values())
    if partial and missing == "zero":
        are = "is" if partial == 1 else "are"
        yield f"{partial} of {len(ranks)} modules {are} left alone by some: that counts as no change there (missing: zero)"
    if left_out:
        many, are = ("s", "are") if left_out != 1 else ("", "is")
        yield f"{left_out} module{many} that not all of them change {are} left out (missing: intersect)"


def _spread(values: Iterator[float]) -> str:
    """One value, or the smallest and the largest."""
    found = sorted(set(values))
    return f"{found[0]:g}" if len(found) == 1 else f"{found[0]:g} to {found[-1]:g}"


def _each(adapters: Sequence[AdapterHeader], values: Sequence[str]) -> str:
    return ", ".join(f"{value} in {adapter.name}" for adapter, value in zip(adapters, values, strict=True))
