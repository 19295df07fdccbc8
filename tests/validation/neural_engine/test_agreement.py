"""The rules against placements that others published: no worse than they were."""

import json
from dataclasses import asdict

import pytest
from lpa_validate.rules.neural_engine.agreement import Agreement, graded, tally
from lpa_validate.rules.neural_engine.cases import APART, observations
from lpa_validate.rules.neural_engine.rules import AGREEMENT, all_rules, label

AGREE, OF = 215, 227


@pytest.fixture(scope="module")
def counted() -> Agreement:
    return tally(one for seen in observations() if (one := graded(seen)))


def test_no_agreement_is_lost(counted: Agreement) -> None:
    """The figures of the day the rules were last changed; better ones take their place."""
    assert counted.of == OF and counted.agree >= AGREE
    assert counted.false_alarms == ()
    assert counted.agree / counted.of > 0.93


def test_reports_bear_the_figures_that_were_counted(counted: Agreement) -> None:
    written = json.loads(AGREEMENT.read_text("utf-8"))
    assert written == json.loads(json.dumps(asdict(counted)))
    assert (
        label() == f"predicted (agrees with {counted.agree} of {counted.of} published placements)"
    )


def test_every_observation_is_graded_or_stands_apart_for_a_reason(counted: Agreement) -> None:
    every = observations()
    assert [int(seen.id) for seen in every] == list(range(1, len(every) + 1))
    assert counted.of + len(APART) == len(every)
    assert set(APART) <= {seen.id for seen in every}
    assert all(APART.values())


def test_published_placements_that_rules_name_are_among_the_observations() -> None:
    known = {seen.source for seen in observations()}
    named = {
        source.removeprefix("P ")
        for rule in all_rules().values()
        for source in rule.sources
        if source.startswith("P ")
    }
    assert named <= known
