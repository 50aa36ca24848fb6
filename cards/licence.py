"""The parents' licences -> `Verdict`: under which licence a merge may be passed on, and why.

No licence is ever invented: where none can be named, the verdict names none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cards.licence_rules import LICENCES, OBLIGATIONS, REVIEWED, RULES, Kind, LicenceFacts, Rule, facts_of

__all__ = ["ParentLicence", "Reason", "Verdict", "judge_licences", "name_prefix"]

Allowed = Literal["yes", "ask", "no"]

_STRICTNESS: dict[Allowed, int] = {"yes": 0, "ask": 1, "no": 2}
_BINDING = (
    Kind.non_commercial_share_alike, Kind.non_commercial, Kind.share_alike, Kind.llama, Kind.gemma, Kind.rail,
    Kind.weak_copyleft, Kind.attribution, Kind.permissive, Kind.public_domain,
)  # fmt: skip
"""Which kind binds the whole when several can go together, the most demanding first."""

_NAME_PREFIX = {"llama3": "Llama 3", "llama3.1": "Llama", "llama3.2": "Llama", "llama3.3": "Llama", "llama4": "Llama"}
_NO_OTHER_MODELS = frozenset({"llama2", "llama3"})


@dataclass(frozen=True)
class ParentLicence:
    """The licence one model or adapter states.

    licence: its identifier on the Hub, None when it states none.  name, link: of a licence that is ``other``.
    """

    model: str
    licence: str | None
    name: str | None = None
    link: str | None = None


@dataclass(frozen=True)
class Reason:
    """One rule that applied: what it says and where that can be read."""

    allowed: Allowed
    text: str
    source: str


@dataclass(frozen=True)
class Verdict:
    """May the merge be published, and under which licence.

    licence: a Hub identifier, ``other`` when several texts apply, None when none can be named.
    allowed: ``yes``; ``ask``: a person has to decide; ``no``.  reviewed: the date of the rules.
    """

    licence: str | None
    allowed: Allowed
    reasons: tuple[Reason, ...]
    obligations: tuple[str, ...]
    parents: tuple[ParentLicence, ...]
    reviewed: str = REVIEWED

    @property
    def unlicensed(self) -> tuple[str, ...]:
        """The models that state no licence."""
        return tuple(parent.model for parent in self.parents if facts_of(parent.licence).kind is Kind.missing)


def judge_licences(parents: Sequence[ParentLicence]) -> Verdict:
    """Combine the licences of all models and adapters that went into a merge (at least one)."""
    facts = [facts_of(parent.licence) for parent in parents]
    reasons = [Reason(rule.allowed, rule.reason, rule.source) for rule in RULES if _applies(rule, facts)]
    reasons += _family_reasons(facts)
    found: list[Allowed] = ["yes", *(reason.allowed for reason in reasons)]
    allowed = max(found, key=_STRICTNESS.__getitem__)
    kinds = list(dict.fromkeys(fact.kind for fact in facts))
    obligations = dict.fromkeys(duty for kind in kinds for duty in OBLIGATIONS[kind])
    licence = _combined(facts, allowed)
    prefix = name_prefix(licence)
    if prefix:
        obligations[f"begin the model's name with “{prefix}”"] = None
    return Verdict(licence, allowed, tuple(reasons), tuple(obligations), tuple(parents))


def name_prefix(licence: str | None) -> str | None:
    """What the licence says a derived model's name must begin with."""
    return _NAME_PREFIX.get(licence or "")


def _applies(rule: Rule, facts: Sequence[LicenceFacts]) -> bool:
    kinds = {fact.kind for fact in facts}
    if not rule.all_of <= kinds or (rule.any_of and not rule.any_of & kinds):
        return False
    concerned = {fact.id for fact in facts if fact.kind in rule.all_of | rule.any_of}
    return not rule.several or len(concerned) > 1


def _family_reasons(facts: Sequence[LicenceFacts]) -> list[Reason]:
    """Llama 2 and 3 forbid using the model to improve other language models, which a merge may do."""
    bound = sorted({fact.id for fact in facts} & _NO_OTHER_MODELS)
    others = sorted({fact.id or "no licence" for fact in facts} - _NO_OTHER_MODELS)
    if not bound or not others:
        return []
    text = f"{bound[0]} forbids using the model to improve other language models, and a parent is under {others[0]}"
    return [Reason("ask", text, LICENCES[bound[0]].source)]


def _combined(facts: Sequence[LicenceFacts], allowed: Allowed) -> str | None:
    kinds = {fact.kind for fact in facts}
    if allowed == "no" or Kind.missing in kinds or not facts:
        return None
    same = {fact.id for fact in facts}
    if Kind.custom in kinds or (allowed == "ask" and len(same) > 1):
        return "other"
    if len(same) == 1:
        return same.pop()
    kind = next(kind for kind in _BINDING if kind in kinds)
    return max((fact for fact in facts if fact.kind is kind), key=lambda fact: fact.rank).id
