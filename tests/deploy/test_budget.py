"""Budgets as text."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsn.deploy.budget import UNITS, Budget, parse_budget
from mmsn.errors import UserError

amounts = st.floats(1e-9, 1e9)
kinds = st.sampled_from(list(UNITS))


@pytest.mark.parametrize(
    ("text", "kind", "limit"),
    [
        ("100G", "macs", 100_000_000_000),
        ("33.53G", "macs", 33_530_000_000),
        ("0.05g", "macs", 50_000_000),
        ("30%", "percent", 30),
        (" 2.5 % ", "percent", 2.5),
        ("25ms", "latency", 25),
        ("1e3 MS", "latency", 1000),
        ("40Mparams", "params", 40_000_000),
        (25, "id", 25),
        (0, "id", 0),
    ],
)
def test_what_is_understood(text, kind, limit):
    budget = parse_budget(text)
    assert (budget.kind, budget.limit) == (kind, limit)


@pytest.mark.parametrize("text", ["100", "0.3", "1e11", "25", " 7 "])
def test_a_number_without_a_unit_is_refused(text):
    with pytest.raises(UserError, match=r"has no unit: write '400G'.*'50%'.*'25ms'.*'200Mparams'"):
        parse_budget(text)


@pytest.mark.parametrize(
    "text", ["", "G", "40M", "-5G", "1,5G", "100 GB", "1.2.3G", "0ms", "nan%", "1e999G"]
)
def test_what_is_not_understood_is_refused_in_one_line(text):
    with pytest.raises(UserError, match="write '400G'") as caught:
        parse_budget(text)
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [100.0, 0.3, True, None])
def test_a_float_is_no_budget(value):
    with pytest.raises(UserError, match="has no unit"):
        parse_budget(value)


@given(amounts, kinds)
def test_a_budget_survives_its_text(amount, kind):
    budget = Budget(kind, amount)
    if budget.limit > 0:  # not a thousandth of a parameter
        assert parse_budget(str(budget)) == budget


@given(st.text(max_size=12) | st.from_regex(r"[0-9.e+-]{1,6} ?(G|%|ms|Mparams|M)?", fullmatch=True))
def test_any_text_is_a_positive_budget_or_refused(text):
    try:
        budget = parse_budget(text)
    except ValueError:
        return
    assert 0 < budget.limit < float("inf")
    assert any(unit.lower() in text.lower() for unit, _ in UNITS.values())


@given(st.integers(1_000, 10**12), kinds)
def test_what_an_error_says_that_the_only_stitch_costs_is_allowed_itself(cost, kind):
    unit, scale = UNITS[kind]
    with pytest.raises(UserError, match="below the only stitch") as caught:
        Budget(kind, cost / scale / 2).check([cost])
    said, given_ = re.findall(r"[0-9.e+-]+(?:G|%|ms|Mparams)", str(caught.value))[1:]
    assert said == given_
    assert said.endswith(unit)
    assert parse_budget(said).limit >= cost
    assert parse_budget(said).limit <= 1.001 * cost + 1


def test_the_only_stitch_meets_every_budget_from_its_cost_on():
    assert Budget("macs", 2).check([2 * 10**9]) == ""
    assert Budget("percent", 100).check([100.0]) == ""
    assert Budget("macs", 3).check([2 * 10**9]) == "above the only stitch, 2G"
    with pytest.raises(UserError) as caught:
        Budget("macs", 1.9).check([2 * 10**9])
    assert str(caught.value) == (
        "budget 1.9G is below the only stitch, which costs 2G: give 2G or more"
    )


@given(st.lists(st.integers(1_000, 10**12), min_size=2), kinds)
def test_the_range_that_an_error_names_is_allowed_itself(costs, kind):
    unit, scale = UNITS[kind]
    with pytest.raises(UserError, match="below the cheapest") as caught:
        Budget(kind, min(costs) / scale / 2).check(costs)
    *_, first, _, last = str(caught.value).split()
    for end in (first, last):
        assert end.endswith(unit)
        assert parse_budget(end).check(costs) == ""


def test_a_budget_above_all_costs_is_allowed_and_says_so():
    assert Budget("macs", 3).check([10**9, 2 * 10**9]) == "above the most expensive stitch, 2G"
    assert Budget("macs", 2).check([10**9, 2 * 10**9]) == ""
