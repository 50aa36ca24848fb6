"""The ways of merging that are measured in each setting, as arguments of `hubmerge.heterogeneous.merge_models`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from benchmarks.heterogeneous.settings import CALIBRATION, CALIBRATION_SIZES, Proxy, Setting

__all__ = ["BUDGETS", "SHARES", "Row", "rows"]

BUDGETS = (1.2, 1.5)
"""Costs of a widened merge over the base's, as it is stored: dense, with the zero blocks."""

SHARES = (0.1, 0.3, 0.5)
"""How much of a donor of another width is mixed into the base."""

_PUBLISHED: Mapping[str, Any] = {"fit": "parents", "ridge": 1e-3, "follow": "all"}
_SEQUENTIAL: Mapping[str, Any] = {"fit": "merged", "ridge": 1e-3, "follow": "all"}
_DEFAULT: Mapping[str, Any] = {"fit": "auto", "ridge": "auto", "follow": "confident"}

_FITS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "parents": ("least squares on the parents' inputs (as published)", _PUBLISHED),
    "merged": ("least squares on the merged model's inputs", _SEQUENTIAL),
    "auto": ("hubmerge's default fit: both, ridges by what is left out, confident parents followed", _DEFAULT),
}


_WAYS: Mapping[str, str] = {
    "balanced": "matched by activations and weights (MuDSC)",
    "zip": "contracted by activations (ZipIt)",
    "optimal_transport": "transported by activations (OT fusion)",
}


@dataclass(frozen=True)
class Row:
    """One line of a table.

    key: what goals call it.  label: what readers see.  arguments: of `merge_models`, beside models, batches, labels and
    seed.  calibration: how many images or texts it is given.  images: what stands in for the parents' data.
    """

    key: str
    label: str
    arguments: Mapping[str, Any]
    calibration: int = CALIBRATION
    images: Proxy | None = None


def rows(setting: Setting) -> tuple[Row, ...]:
    """The lines of a setting's table, without those of the parents and other controls."""
    if setting.name == "calibration":
        return tuple(_calibration_rows("texts" if setting.model == "bert" else "images"))
    if setting.name in {"wider", "narrower"}:
        return tuple(_width_rows())
    if setting.name in {"deeper", "shallower"}:
        return tuple(_depth_rows())
    if setting.name.startswith("regmean"):
        return tuple(_regmean_rows())
    if setting.name == "proxy":
        return tuple(_proxy_rows())
    if setting.model == "bert":
        return tuple(_text_rows())
    return tuple(_rows(batch_norm=setting.model == "resnet"))


def _rows(*, batch_norm: bool) -> Iterator[Row]:
    """Averages, permutations, least squares without them, and both together at the base's width and wider."""
    if batch_norm:
        yield _row("average_as_is", "average, BatchNorm's statistics averaged too", "identity", renormalise=False)
    yield _row("average", "average", "identity")
    yield _row("weights", "permuted by weights", "weights")
    yield _row("activations", "permuted by activations", "activations")
    for fit, (words, arguments) in _FITS.items():
        yield _row(f"average_{fit}", f"not permuted, {words}", "identity", **arguments)
    for fit, (words, arguments) in _FITS.items():
        yield _row(f"weights_{fit}", f"permuted by weights, {words}", "weights", **arguments)
    for fit, (words, arguments) in _FITS.items():
        yield _row(f"pleas_{fit}", f"PLeaS: permuted by activations, {words}", "activations", **arguments)
    for align, words in _WAYS.items() if batch_norm else ():
        yield from _with_fits(align, words, align)
    for budget in BUDGETS:
        wide: dict[str, Any] = {"align": "activations", "widths": "union", "budget": budget}
        yield _row(f"partial_{budget}", f"{budget}x: permuted in part", **wide)
        for fit, (words, arguments) in _FITS.items():
            yield _row(f"pleas_{budget}_{fit}", f"{budget}x: PLeaS, {words}", **wide, **arguments)
        if batch_norm:
            wide |= {"policy": "greedy"}
            yield _row(f"partial_{budget}_greedy", f"{budget}x, where units are least alike: permuted in part", **wide)
            words, arguments = _FITS["auto"]
            yield _row(
                f"pleas_{budget}_greedy_auto",
                f"{budget}x, where units are least alike: PLeaS, {words}",
                **wide,
                **arguments,
            )
    if batch_norm:
        yield _row("separate", "all units separate", "activations", widths="union", ratio=1.0)
    else:
        yield from _turned_rows()


def _turned_rows() -> Iterator[Row]:
    """The same with the residual stream turned first, by weights."""
    turned: dict[str, Any] = {"residual": "orthogonal"}
    yield _row("turned_average", "stream turned, not permuted", "identity", **turned)
    yield _row("turned_weights", "stream turned, permuted by weights", "weights", **turned)
    yield _row("turned_activations", "stream turned, permuted by activations", "activations", **turned)
    for fit, (words, arguments) in _FITS.items():
        yield _row(f"turned_{fit}", f"PLeaS, stream turned: {words}", "activations", **turned, **arguments)


def _text_rows() -> Iterator[Row]:
    """As `_rows`, without fits after permuting by weights and without the published forms of wider merges; and the stream permuted too."""
    yield _row("average", "average", "identity")
    yield _row("weights", "permuted by weights", "weights")
    yield _row("activations", "permuted by activations", "activations")
    yield _row("stream", "permuted by activations, the stream too", "activations", without=())
    for fit, (words, arguments) in _FITS.items():
        yield _row(f"average_{fit}", f"not permuted, {words}", "identity", **arguments)
    for fit, (words, arguments) in _FITS.items():
        yield _row(f"pleas_{fit}", f"PLeaS: permuted by activations, {words}", "activations", **arguments)
    yield _row(
        "stream_auto", "PLeaS, hubmerge's default, the stream permuted too", "activations", without=(), **_DEFAULT
    )
    for budget in BUDGETS:
        wide: dict[str, Any] = {"align": "activations", "widths": "union", "budget": budget}
        yield _row(f"partial_{budget}", f"{budget}x: permuted in part", **wide)
        yield _row(f"pleas_{budget}_auto", f"{budget}x: PLeaS, {_FITS['auto'][0]}", **wide, **_DEFAULT)


def _width_rows() -> Iterator[Row]:
    """A donor of another width into the base, at the base's width and at the width of both."""
    for share in SHARES:
        weights = (1 - share, share)
        yield _row(f"base_{share}", f"base's width, {share} of the donor", "activations", weights=weights)
    for fit, (words, arguments) in _FITS.items():
        yield _row(f"base_{fit}", f"base's width, {words}", "activations", **arguments)
    yield from _with_fits("fold", "base's width, units without a partner folded", "activations", widths="fold")
    for align, words in _WAYS.items():
        yield from _with_fits(align, f"base's width, {words}", align)
    yield _row("union", "all matched units joined, the others separate", "activations", widths="union")
    for fit, (words, arguments) in _FITS.items():
        yield _row(f"union_{fit}", f"the same, {words}", "activations", widths="union", **arguments)


def _with_fits(key: str, label: str, align: str, **arguments: Any) -> Iterator[Row]:
    """One way of matching without a fit, with the published one, for which matching is worth most, and with the default."""
    yield _row(key, label, align, **arguments)
    for fit in ("parents", "auto"):
        words, fitted = _FITS[fit]
        yield _row(f"{key}_{fit}", f"{label}, {words}", align, **arguments, **fitted)


def _depth_rows() -> Iterator[Row]:
    """A donor of another depth into the base, at the base's depth; the last line is the base fitted to itself alone."""
    yield _row("average", "average of paired blocks", "identity")
    yield _row("activations", "permuted by activations", "activations")
    yield _row("average_auto", f"not permuted, {_FITS['auto'][0]}", "identity", **_DEFAULT)
    for fit, (words, arguments) in _FITS.items():
        yield _row(f"pleas_{fit}", f"PLeaS: permuted by activations, {words}", "activations", **arguments)
    yield _row("alone_auto", "the default without the donor", "activations", weights=(1.0, 0.0), **_DEFAULT)


def _regmean_rows() -> Iterator[Row]:
    """RegMean as published, on the same samples for all parents, with units matched first, and with the confident parents' inputs."""
    yield _row("average", "average", "identity")
    yield _row("activations", "permuted by activations", "activations")
    for key, words, align in (
        ("average", "not permuted", "identity"),
        ("pleas", "permuted by activations", "activations"),
    ):
        for follow in ("all", "confident"):
            inputs = "all parents' inputs" if follow == "all" else "confident parents' inputs"
            arguments: dict[str, Any] = {"fit": "regmean", "ridge": 1e-3, "follow": follow}
            yield _row(f"{key}_regmean_{follow}", f"{words}, RegMean on {inputs}", align, **arguments)
    yield _row(
        "pleas_regmean_auto",
        "permuted by activations, RegMean, ridges by what is left out",
        "activations",
        fit="regmean",
    )
    yield _row("pleas_parents", f"PLeaS: permuted by activations, {_FITS['parents'][0]}", "activations", **_PUBLISHED)


def _calibration_rows(things: str) -> Iterator[Row]:
    """What is left of PLeaS when there is less to calibrate with."""
    for size in CALIBRATION_SIZES:
        yield _row(f"activations_{size}", f"{size} {things}: permuted by activations", "activations", size=size)
        for fit, (words, arguments) in _FITS.items():
            yield _row(f"{fit}_{size}", f"{size} {things}: {words}", "activations", size=size, **arguments)


def _proxy_rows() -> Iterator[Row]:
    """The same on data of the parents' kind that is none of theirs, and on none at all (PLeaS-free, arXiv:2407.02447)."""
    kinds: tuple[tuple[str, Proxy | None], ...] = (("own images", None), ("other digits", "digits"), ("noise", "noise"))
    for words, images in kinds:
        yield _row(f"{images or 'own'}_activations", f"{words}: permuted by activations", "activations", images=images)
        for fit, (form, arguments) in _FITS.items():
            yield _row(f"{images or 'own'}_{fit}", f"{words}: {form}", "activations", images=images, **arguments)


def _row(
    key: str, label: str, align: str, *, size: int = CALIBRATION, images: Proxy | None = None, **arguments: Any
) -> Row:
    given = {"align": align, "widths": "base", "fit": None, "renormalise": True, "residual": "keep", **arguments}
    return Row(key, label, MappingProxyType(given), size, images)
