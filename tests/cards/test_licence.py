"""Licence rules: the table of combinations, line by line, and laws that hold for all of them."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cards.licence import ParentLicence, judge_licences, name_prefix
from cards.licence_rules import LICENCES, OBLIGATIONS, REVIEWED, RULES, Kind, facts_of


def _judge(*licences):
    return judge_licences([ParentLicence(f"m{number}", licence) for number, licence in enumerate(licences)])


@pytest.mark.parametrize(
    ("licences", "allowed", "licence"),
    [
        (["mit", "mit"], "yes", "mit"),
        (["mit", "apache-2.0"], "yes", "apache-2.0"),
        (["cc0-1.0", "bsd-3-clause", "mit"], "yes", "bsd-3-clause"),
        (["mit", "cc-by-4.0"], "yes", "cc-by-4.0"),
        (["mit", "mpl-2.0"], "yes", "mpl-2.0"),
        (["mit", "gpl-3.0"], "yes", "gpl-3.0"),
        (["apache-2.0", "llama3.1"], "yes", "llama3.1"),
        (["mit", "gemma"], "yes", "gemma"),
        (["apache-2.0", "openrail"], "yes", "openrail"),
        (["apache-2.0", "cc-by-nc-4.0"], "yes", "cc-by-nc-4.0"),
        (["mit", "cc-by-nc-sa-4.0"], "yes", "cc-by-nc-sa-4.0"),
        (["llama3.1", "llama3.2"], "ask", "other"),
        (["llama2", "apache-2.0"], "ask", "other"),
        (["llama3.1", "cc-by-nc-4.0"], "ask", "other"),
        (["mit", "qwen-research"], "ask", "other"),
        (["other", "other"], "ask", "other"),
        (["mit", None], "ask", None),
        ([None], "ask", None),
        (["mpl-2.0", "gpl-3.0"], "ask", "other"),
        (["llama3.1", "gemma"], "no", None),
        (["llama3.1", "openrail"], "no", None),
        (["gpl-3.0", "gemma"], "no", None),
        (["gpl-3.0", "cc-by-sa-4.0"], "no", None),
        (["cc-by-sa-4.0", "cc-by-nc-4.0"], "no", None),
        (["cc-by-nc-sa-4.0", "cc-by-sa-4.0"], "no", None),
        (["mit", "cc-by-nd-4.0"], "no", None),
        (["cc-by-nc-nd-4.0", None], "no", None),
    ],
)
def test_the_table_of_combinations(licences, allowed, licence):
    verdict = _judge(*licences)
    assert (verdict.allowed, verdict.licence) == (allowed, licence)
    assert verdict.allowed == "yes" or verdict.reasons


def test_a_missing_licence_is_said_by_name():
    assert _judge("mit", None, "unknown").unlicensed == ("m1", "m2")


def test_a_llama_merge_has_to_be_named_so():
    verdict = _judge("llama3.1")
    assert "begin the model's name with “Llama”" in verdict.obligations
    assert name_prefix("llama3") == "Llama 3"
    assert name_prefix("mit") is None


@given(st.lists(st.sampled_from([*sorted(LICENCES), None, "something"]), min_size=1, max_size=5))
def test_the_order_of_parents_does_not_matter(licences):
    there, back = _judge(*licences), _judge(*reversed(licences))
    assert (there.allowed, there.licence, set(there.obligations)) == (back.allowed, back.licence, set(back.obligations))


@given(
    st.lists(st.sampled_from([*sorted(LICENCES), None]), min_size=1, max_size=4),
    st.sampled_from([*sorted(LICENCES), None]),
)
def test_another_parent_never_makes_a_merge_freer(licences, another):
    order = ("yes", "ask", "no")
    assert order.index(_judge(*licences, another).allowed) >= order.index(_judge(*licences).allowed)


@given(st.lists(st.sampled_from([*sorted(LICENCES), None, "something"]), min_size=1, max_size=5))
def test_no_licence_is_invented(licences):
    assert _judge(*licences).licence in {*licences, "other", None}


def test_every_rule_and_licence_has_a_source_and_the_rules_have_a_date():
    assert all(rule.source.startswith("https://") and rule.reason for rule in RULES)
    assert all(facts.source.startswith("https://") for facts in LICENCES.values())
    assert set(OBLIGATIONS) == set(Kind)
    assert dt.date.fromisoformat(REVIEWED)
    assert facts_of("what-is-this").kind is Kind.custom
