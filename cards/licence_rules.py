"""What is known about licences, as data: each licence's class, where its text is, and what follows from combinations.

This is engineering policy, not legal advice: it decides when to go on, when to ask a person and when to stop.
Texts change; `REVIEWED` is the day on which these tables were last gone through.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

__all__ = ["LICENCES", "OBLIGATIONS", "REVIEWED", "RULES", "Kind", "LicenceFacts", "Rule", "facts_of"]

REVIEWED = "2026-11-21"


class Kind(StrEnum):
    """What a licence asks of those who pass a derived model on."""

    public_domain = "public domain"
    permissive = "permissive"
    attribution = "attribution (Creative Commons BY)"
    weak_copyleft = "weak copyleft"
    share_alike = "share-alike"
    rail = "RAIL (use restrictions)"
    llama = "Llama community licence"
    gemma = "Gemma terms"
    non_commercial = "non-commercial"
    non_commercial_share_alike = "non-commercial share-alike"
    no_derivatives = "no derivatives"
    custom = "a licence of its own"
    missing = "no licence stated"


@dataclass(frozen=True)
class LicenceFacts:
    """One licence by its identifier on the Hub.  rank: among free licences, the higher one binds the result."""

    id: str
    kind: Kind
    source: str
    rank: int = 0


_CC, _SPDX = "https://creativecommons.org/licenses", "https://spdx.org/licenses"
_RAIL, _LLAMA = "https://www.licenses.ai/ai-licenses", "https://www.llama.com"


def _several(kind: Kind, source: str, ids: str) -> list[LicenceFacts]:
    """Licences of one kind, from the least to the most demanding."""
    return [LicenceFacts(id_, kind, source.format(id=id_), rank) for rank, id_ in enumerate(ids.split())]


_ALL = (
    *_several(Kind.public_domain, _SPDX, "cc0-1.0 unlicense wtfpl pddl"),
    *_several(
        Kind.permissive,
        _SPDX,
        "zlib isc mit bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear ncsa postgresql artistic-2.0 afl-3.0 ms-pl "
        "ecl-2.0 odc-by openmdw openmdw-1.0 apache-2.0",
    ),
    *_several(Kind.attribution, _CC, "cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0"),
    *_several(
        Kind.weak_copyleft, _SPDX, "mpl-2.0 lgpl lgpl-lr lgpl-2.1 lgpl-3.0 epl-1.0 epl-2.0 eupl-1.1 eupl-1.2 osl-3.0"
    ),
    *_several(Kind.share_alike, _SPDX, "cc-by-sa-3.0 cc-by-sa-4.0 gpl gpl-2.0 gpl-3.0 agpl-3.0 odbl gfdl"),
    *_several(
        Kind.rail,
        _RAIL,
        "openrail openrail++ creativeml-openrail-m bigscience-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m",
    ),
    LicenceFacts("llama2", Kind.llama, f"{_LLAMA}/llama2/license/"),
    LicenceFacts("llama3", Kind.llama, f"{_LLAMA}/llama3/license/"),
    LicenceFacts("llama3.1", Kind.llama, f"{_LLAMA}/llama3_1/license/"),
    LicenceFacts("llama3.2", Kind.llama, f"{_LLAMA}/llama3_2/license/"),
    LicenceFacts("llama3.3", Kind.llama, f"{_LLAMA}/llama3_3/license/"),
    LicenceFacts("llama4", Kind.llama, f"{_LLAMA}/llama4/license/"),
    LicenceFacts("gemma", Kind.gemma, "https://ai.google.dev/gemma/terms"),
    *_several(Kind.non_commercial, _CC, "cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 fair-noncommercial-research-license"),
    *_several(Kind.non_commercial_share_alike, _CC, "cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0"),
    *_several(Kind.no_derivatives, _CC, "cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0"),
)

LICENCES: dict[str, LicenceFacts] = {facts.id: facts for facts in _ALL}


def facts_of(licence: str | None) -> LicenceFacts:
    """What is known about the licence with this identifier; unknown ones and ``other`` are of their own kind."""
    if licence is None or licence in {"unknown", "none"}:
        return LicenceFacts("", Kind.missing, "")
    return LICENCES.get(licence, LicenceFacts(licence, Kind.custom, ""))


@dataclass(frozen=True)
class Rule:
    """One line of the policy.

    It applies when every kind in `all_of` occurs among the parents, at least one in `any_of` (if any are listed), and,
    with `several`, when the licences of the kinds in `all_of` and `any_of` are not all the same one.
    """

    allowed: Literal["yes", "ask", "no"]
    reason: str
    source: str
    all_of: frozenset[Kind] = frozenset()
    any_of: frozenset[Kind] = frozenset()
    several: bool = False


_FREE = frozenset({Kind.public_domain, Kind.permissive, Kind.attribution})
_RESTRICTED = frozenset({Kind.rail, Kind.llama, Kind.gemma})
_SHARE_ALIKE = frozenset({Kind.share_alike, Kind.non_commercial_share_alike})
_NON_COMMERCIAL = frozenset({Kind.non_commercial, Kind.non_commercial_share_alike})
_CC_FAQ = "https://creativecommons.org/faq/"


def _pairs(
    allowed: Literal["ask", "no"], kinds: frozenset[Kind], others: frozenset[Kind], reason: str, source: str
) -> list[Rule]:
    return [Rule(allowed, reason, source, all_of=frozenset({kind}), any_of=others) for kind in sorted(kinds)]


RULES: tuple[Rule, ...] = (
    Rule(
        "no",
        "a parent's licence forbids passing on derived models; the merge may be kept and used, not published",
        _CC_FAQ,
        all_of=frozenset({Kind.no_derivatives}),
    ),
    *_pairs(
        "no",
        _SHARE_ALIKE,
        _RESTRICTED,
        "a share-alike licence allows no added use restrictions, and another parent's licence demands them",
        "https://www.gnu.org/licenses/gpl-faq.html",
    ),
    Rule(
        "no",
        "two share-alike licences each demand that the whole be under it alone",
        _CC_FAQ,
        any_of=_SHARE_ALIKE,
        several=True,
    ),
    Rule(
        "no",
        "two licences with use restrictions of different families apply at once and may contradict each other",
        _RAIL,
        all_of=frozenset({Kind.llama, Kind.gemma}),
    ),
    *_pairs(
        "no",
        frozenset({Kind.llama, Kind.gemma}),
        frozenset({Kind.rail}),
        "two licences with use restrictions of different families apply at once and may contradict each other",
        _RAIL,
    ),
    *_pairs(
        "no",
        frozenset({Kind.share_alike}),
        _NON_COMMERCIAL,
        "share-alike forbids the limit to non-commercial use that another parent's licence demands",
        _CC_FAQ,
    ),
    *_pairs(
        "ask",
        frozenset({Kind.llama, Kind.gemma}),
        _NON_COMMERCIAL,
        "whether non-commercial terms can be added to these terms has to be judged by a person",
        _CC_FAQ,
    ),
    Rule(
        "ask",
        "the parents are under different licences with use restrictions; the texts of all of them apply",
        _LLAMA,
        any_of=_RESTRICTED,
        several=True,
    ),
    *_pairs(
        "ask",
        frozenset({Kind.weak_copyleft}),
        frozenset(Kind) - _FREE - {Kind.weak_copyleft, Kind.missing},
        "how a weak copyleft licence goes with the other has to be judged by a person",
        "https://www.mozilla.org/MPL/2.0/FAQ/",
    ),
    Rule(
        "ask",
        "the parents are under different weak copyleft licences, which have to be kept side by side",
        "https://www.mozilla.org/MPL/2.0/FAQ/",
        any_of=frozenset({Kind.weak_copyleft}),
        several=True,
    ),
    Rule(
        "ask",
        "the parents are under different non-commercial licences",
        _CC_FAQ,
        any_of=_NON_COMMERCIAL,
        several=True,
    ),
    Rule(
        "ask",
        "a parent has a licence of its own, whose text has to be read before the merge is passed on",
        "https://huggingface.co/docs/hub/repositories-licenses",
        all_of=frozenset({Kind.custom}),
    ),
    Rule(
        "ask",
        "no licence is known for a parent, so there is no permission to pass on what is made from it",
        "https://choosealicense.com/no-permission/",
        all_of=frozenset({Kind.missing}),
    ),
    Rule(
        "yes",
        "attribution stays due: works under a Creative Commons BY licence cannot be handed on as under a code licence",
        _CC_FAQ,
        all_of=frozenset({Kind.attribution}),
        any_of=frozenset({Kind.public_domain, Kind.permissive}),
    ),
)

OBLIGATIONS: dict[Kind, tuple[str, ...]] = {
    Kind.public_domain: (),
    Kind.permissive: ("keep the parents' copyright, LICENSE and NOTICE texts with the model",),
    Kind.attribution: ("name the authors, link the licence, say that the work was changed",),
    Kind.weak_copyleft: ("keep the licence text, and the same licence for the covered part",),
    Kind.share_alike: ("publish under the same licence, with its full text",),
    Kind.rail: ("pass the licence's use restrictions on to everyone who gets the model",),
    Kind.llama: (
        "include the licence text and the notice it prescribes",
        "display “Built with Llama” where the model is offered (from Llama 3 on)",
        "link the acceptable use policy; users above 700 million a month need Meta's permission",
    ),
    Kind.gemma: (
        "pass on the terms and the prohibited use policy, with a notice file",
        "state that the model was changed",
    ),
    Kind.non_commercial: ("non-commercial use only, in every further copy too", "name the authors, link the licence"),
    Kind.non_commercial_share_alike: ("non-commercial use only, under the same licence", "name the authors"),
    Kind.no_derivatives: (),
    Kind.custom: ("read the licence text; keep it with the model and link it",),
    Kind.missing: (),
}
"""What each kind asks of the one who publishes."""
