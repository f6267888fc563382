"""No outcomes end a run, whatever they are: figures are finite, intervals have a width, and it is judged."""

import math

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robustbench_coded.judge.anytime import RANDOM
from robustbench_coded.judge.attack_checks import converged, other_attacks
from robustbench_coded.judge.checks import Check
from robustbench_coded.judge.combined import case_results
from robustbench_coded.judge.gradients import answered
from robustbench_coded.judge.judge import judge
from robustbench_coded.judge.summary import summary_frame, summary_rows
from robustbench_coded.schema.case import Claim
from robustbench_coded.schema.words import ENSEMBLE, CheckOutcome

# Whether an answer is right, by example, place in its batch, batch and draw; [examples, draws].
PATTERNS = {
    "all right": lambda i, slot, batch, draw: (i >= 0) & (draw >= 0),
    "all wrong": lambda i, slot, batch, draw: (i < 0) & (draw >= 0),
    "half of every batch": lambda i, slot, batch, draw: (slot % 2 == 0) & (draw >= 0),
    "half of every batch, the other half in other draws": lambda i, slot, batch, draw: (slot + draw) % 2 == 0,
    "one in every batch": lambda i, slot, batch, draw: (slot == 0) & (draw >= 0),
    "every other batch": lambda i, slot, batch, draw: (batch % 2 == 0) & (draw >= 0),
    "the first example": lambda i, slot, batch, draw: (i == 0) & (draw >= 0),
    "all but the first": lambda i, slot, batch, draw: (i > 0) & (draw >= 0),
    "the first draw": lambda i, slot, batch, draw: (i >= 0) & (draw == 0),
    "one answer": lambda i, slot, batch, draw: (i == 0) & (draw == 0),
    "whole batches by draw": lambda i, slot, batch, draw: (batch + draw) % 2 == 0,
}
ATTACKS = (
    *("clean", "random-sign", "pgd-10", "transfer-pgd-20", "pgd-10+target=0", "from:standard/pgd-10"),
    *("rays-400", "rays-800", "aware-pgd-10"),
)
BASE = {"defence": "standard", "k": None, "n": None, "randomised": False, "batch_dependent": False}
THREATS = ("batch/unknown", "batch/known", "victim/unknown")


@st.composite
def settings_of_a_run(draw):
    """Sizes, what the defence is like, and a pattern for each attack and purpose: often one for all."""
    randomised, dependent = draw(st.booleans()), draw(st.booleans())
    patterns = st.tuples(*[st.sampled_from(sorted(PATTERNS))] * 3)
    alike = st.sampled_from(sorted(PATTERNS)).map(lambda pattern: (pattern,) * 3)
    of_all = draw(st.none() | alike | patterns)
    return {
        "batch_size": draw(st.sampled_from([1, 2, 4, 6])),
        "batches": draw(st.integers(1, 5)),
        "shorter": draw(st.integers(0, 1)),  # by how many examples the last batch is
        "draws": draw(st.integers(1, 3)) if randomised else 1,
        "randomised": randomised,
        "dependent": dependent,
        "threat": draw(st.sampled_from(THREATS if randomised else THREATS[::2])),
        "looks": draw(st.sampled_from([0, 6])),
        "random_batches": draw(st.sampled_from([0, 1, 3, 150])) if dependent else 0,
        "patterns": {attack: of_all or draw(patterns) for attack in ATTACKS},
        "base": draw(st.none() | st.sampled_from(sorted(PATTERNS))),
    }


def right(pattern, examples, k, draws):
    i, draw = np.arange(examples)[:, None], np.arange(draws)[None]
    return PATTERNS[pattern](i, i % k, i // k, draw)


def run_of(made, setting):
    """The outcomes and the plan of a run with these settings."""
    k, draws = setting["batch_size"], setting["draws"]
    examples = max(1, k * setting["batches"] - setting["shorter"])
    for attack, (scoring, selection, _) in setting["patterns"].items():
        control, aware = attack in ("clean", "random-sign"), attack.startswith("aware")
        if aware and not setting["randomised"]:
            continue
        threat = "batch/known" if aware else "batch/unknown" if control else setting["threat"]
        drawn = setting["randomised"] and not threat.endswith("/known")
        made.add(
            attack,
            right(scoring, examples, k, draws),
            right(selection, examples, k, 2) if drawn else None,
            batch_size=k,
            randomised=setting["randomised"],
            batch_dependent=setting["dependent"],
            k=k,
            threat=threat,
        )
        looks = 0 if control else setting["looks"]
        made.planned[-1] |= {"looks": looks}
    if setting["base"]:
        for attack in ("clean", "pgd-10"):
            made.add(attack, right(setting["base"], examples, k, 1), batch_size=k, **BASE)
    outcomes, planned = made.parts()
    again = in_random_batches(outcomes, setting) if setting["random_batches"] else outcomes.iloc[:0]
    return pd.concat([outcomes, again], ignore_index=True), planned


def in_random_batches(outcomes, setting):
    """Answers to the inputs of every attack in random batches of the images."""
    first = (outcomes["purpose"] == "scoring") & (outcomes["draw"] == 0)
    once = outcomes[first & (outcomes["defence"] != BASE["defence"])]
    parts = []
    for attack, rows in once.groupby("attack"):
        images, generator = len(rows), np.random.default_rng(0)
        k = min(setting["batch_size"], images)
        number, slot = np.divmod(np.arange(setting["random_batches"] * k), k)
        drawn = np.concatenate([generator.permutation(images)[:k] for _ in range(setting["random_batches"])])
        answered = PATTERNS[setting["patterns"][attack][2]](drawn, slot, number, number)
        part = rows.iloc[drawn].assign(purpose=RANDOM, draw=number, batch=number)
        parts.append(part.assign(prediction=np.where(answered, part["label"], (part["label"] + 1) % 10)))
    return pd.concat(parts)


def check(low, value, high, what):
    assert all(map(math.isfinite, (low, value, high))), what
    assert 0 <= low <= value <= high <= 1 and low < high, (what, low, value, high)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(setting=settings_of_a_run())
def test_every_figure_is_finite_and_every_interval_holds_it(evaluation, setting):
    outcomes, planned = run_of(evaluation(), setting)
    results = case_results(outcomes, planned)
    rows = summary_rows(results, {})
    assert len(rows) >= len(ATTACKS)
    for row in rows:
        assert row.accuracy is not None
        assert (row.low is None) == (row.high is None) == (row.interval_kind is None), row.case
        if row.low is not None:
            check(row.low, row.accuracy, row.high, row.case)
        assert (row.own is None) == (row.unit == "example")
        if row.own and not row.rebatched:
            assert (round(row.own.accuracy, 6), row.own.batches) == (row.accuracy, row.batches)
        if row.reached is not None:
            check(row.reached.low, row.reached.estimate, row.reached.high, row.case)
    for result in results:
        for tail in (0.25, 1e-3, 1e-6):
            interval = result.interval(tail)
            check(interval.low, interval.estimate, interval.high, (result.case, tail))
    assert len(summary_frame(rows)) == len(rows)
    for ensemble in (result for result in results if result.case.attack == ENSEMBLE):
        checks = [*other_attacks(results, ensemble), *converged(results, ensemble)]
        failed = Check("self-tests: steps uphill", CheckOutcome.FAILED, "It fails.")
        checks = answered([*checks, failed], results, ensemble)
        claim = Claim(0.5, ensemble.case.threat, ensemble.case.perturbation)
        verdict = judge(results, ensemble, checks, claim=claim)
        if verdict.accuracy.kind is not None:
            check(verdict.accuracy.low, verdict.accuracy.estimate, verdict.accuracy.high, ensemble.case)
        assert not any("nan" in one.finding for one in verdict.checks)
