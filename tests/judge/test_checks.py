"""Checks: another kind of attack finds no more, and attacks have converged."""

from dataclasses import replace

import numpy as np
import pytest

from robustbench_coded.judge import checks as module
from robustbench_coded.judge.anytime import RandomBatches
from robustbench_coded.judge.attack_checks import converged, other_attacks
from robustbench_coded.judge.checks import Check, advised, compared
from robustbench_coded.judge.combined import case_results
from robustbench_coded.judge.outcomes import Cell, floor_of
from robustbench_coded.judge.paired import Difference
from robustbench_coded.schema.words import CheckName, CheckOutcome

EXAMPLES = 800
BASE = {"defence": "standard", "k": None, "n": None, "randomised": False, "batch_dependent": False}


def share(part, draws=4):
    """A ``part`` of the examples right in every draw, evenly over the batches; nested for nested parts."""
    right = (np.arange(EXAMPLES) * 89 % EXAMPLES) < round(part * EXAMPLES)
    return np.repeat(right[:, None], draws, axis=1)


@pytest.fixture
def checked(evaluation):
    """Runs the checks on RCI with clean accuracy 0.9 and attacks given as name=(share left, options)."""

    def checks(
        attacks,
        *,
        threat="batch/unknown",
        signs=0.85,
        **defence,
    ):
        run = evaluation()
        for name, part in (("clean", 0.9), ("random-sign", signs)):
            run.add(name, share(part), share(part), **defence)
        for name, part, *options in attacks:
            run.add(name, share(part), share(part), **{**defence, **(options[0] if options else {})})
        rows = case_results(*run.parts())
        eps = next(row for row in rows if row.case.attack == "random-sign").case.perturbation.eps
        made = [
            r
            for r in rows
            if r.case.attack == "ensemble" and str(r.case.threat) == threat and r.case.perturbation.eps == eps
        ]
        found = [
            *other_attacks(rows, made[0]),
            *converged(rows, made[0]),
        ]
        return {check.name: check for check in found}

    return checks


KNOWN = {"threat": "batch/known"}
SEARCHED = ("square-1000", 0.4)


@pytest.mark.parametrize(
    ("attacks", "signs", "outcome"),
    [
        ([("eot10-pgd-20", 0.2), ("transfer-pgd-20", 0.3), SEARCHED], 0.85, "passed"),
        ([("eot10-pgd-20", 0.2), SEARCHED], 0.85, "passed"),
        ([("eot10-pgd-20", 0.2), ("transfer-pgd-20", 0.1), SEARCHED], 0.85, "failed"),
        ([("eot10-pgd-20", 0.2), ("transfer-pgd-20", 0.1)], 0.85, "failed"),
        ([("eot10-pgd-20", 0.2), ("square-1000", 0.1)], 0.85, "failed"),
        ([("eot10-pgd-20", 0.2), ("torchattacks:Square", 0.1)], 0.85, "failed"),
        ([("eot10-pgd-20", 0.2), ("from:standard/pgd-10", 0.1), SEARCHED], 0.85, "failed"),
        ([("eot10-pgd-20", 0.4), ("square-1000", 0.6), ("random-1000", 0.2)], 0.85, "failed"),
        ([("eot10-pgd-20", 0.4)], 0.3, "failed"),  # random signs alone find more
        # A stronger attack through the defence makes it pass; where nothing is left, nothing is stronger.
        (
            [
                ("eot10-pgd-20", 0.2),
                ("eot10-pgd-40+init=transfer-pgd-20", 0.1),
                ("transfer-pgd-20", 0.1),
                SEARCHED,
            ],
            0.85,
            "passed",
        ),
        ([("eot10-pgd-20", 0.0)], 0.85, "passed"),
        # Without a search of its own, the gradients have not been questioned.
        ([("eot10-pgd-20", 0.2)], 0.85, "not run"),
        ([("eot10-pgd-20", 0.2), ("transfer-pgd-20", 0.3)], 0.85, "not run"),
        ([("eot10-pgd-20", 0.2), ("from:standard/square-1000", 0.3)], 0.85, "not run"),
        ([("transfer-pgd-20", 0.2)], 0.85, "not run"),
    ],
)
def test_nothing_without_the_gradients_is_stronger(checked, attacks, signs, outcome):
    assert checked(attacks, signs=signs)["transfer or black-box"].outcome == outcome


@pytest.mark.parametrize(
    ("attacks", "signs", "rival", "asked"),
    [
        ([("transfer-pgd-20", 0.1), SEARCHED], 0.85, "transfer-pgd-20", ()),
        ([("square-1000", 0.1)], 0.85, "square-1000", ("bpda-pgd-20",)),
        # Where signs alone show it, the search has not been made yet.
        ([], 0.1, "random-sign", ("bpda-pgd-20", "square-1000", "random-1000")),
    ],
)
def test_what_misleads_is_named_and_what_may_find_more_is_asked_for(checked, attacks, signs, rival, asked):
    check = checked([("eot10-pgd-20", 0.2), *attacks], signs=signs)["transfer or black-box"]
    assert check.attacks == ("eot10-pgd-20", rival)
    assert "+10.0 points" in check.finding
    assert check.run_next == ("eot10-pgd-40+init=transfer-pgd-20", *asked)


def test_without_a_base_model_nothing_that_asks_it_is_asked_for(evaluation):
    run = evaluation()
    for name, part in (("clean", 0.9), ("eot10-pgd-20", 0.2), ("random-sign", 0.1)):
        run.add(name, share(part), share(part))
    rows = [replace(row, has_base=False) for row in case_results(*run.parts())]
    ensemble = next(row for row in rows if row.case.attack == "ensemble")
    check = {check.name: check for check in other_attacks(rows, ensemble)}["transfer or black-box"]
    assert check.failed and check.run_next == ("square-1000", "random-1000")


def test_where_nothing_has_gradients_nothing_that_needs_them_is_asked_for(checked):
    checks = checked([("square-1000", 0.5), ("rays-800", 0.5)])
    assert checks["twice the draws"].outcome == "passed"
    assert checked([("pgd-10", 0.5), ("rays-800", 0.5)])["twice the draws"].outcome == "not run"


def test_a_constant_prediction_is_at_its_floor():
    label = np.arange(1000) % 10
    constant, perfect = np.zeros((1000, 3), np.int32), np.repeat(label[:, None], 3, 1).astype(np.int32)
    ids, draws = np.arange(1000), np.arange(3)
    floors = [floor_of(Cell(ids, ids, label, draws, answers)) for answers in (constant, perfect)]
    # Of the 999 other examples, 99 have the label of a given one.
    assert floors == pytest.approx([0.1, 99 / 999])


@pytest.mark.parametrize(
    ("attacks", "outcome", "run_next"),
    [
        ([("pgd-20", 0.3), ("pgd-40", 0.3)], "passed", ()),
        ([("pgd-20", 0.3), ("pgd-40", 0.2)], "failed", ("pgd-80",)),
        ([("pgd-20@1/255", 0.3), ("pgd-40", 0.31)], "not run", ("pgd-40@1/255",)),
        ([("pgd-20@1/255", 0.3), ("apgd-ce-40", 0.304)], "passed", ()),  # twice as long, and as strong
        ([("pgd-20", 0.3), ("square-1000", 0.3)], "not run", ("pgd-40",)),
        ([("pgd-20", 0.3)], "not run", ("pgd-40",)),
        ([("aware-pgd-20+init=transfer-pgd-20", 0.3)], "not run", ("aware-pgd-40+init=transfer-pgd-20",)),
        ([("pgd-20", 0.0)], "passed", ()),
        # Twice the draws are the strongest by chance; with fewer of them, twice the steps ran.
        ([("eot10-pgd-20", 0.304), ("eot10-pgd-40", 0.304), ("eot20-pgd-20", 0.3)], "passed", ()),
        ([("pgd-20", 0.33), ("pgd-40", 0.33), ("eot2-pgd-10", 0.3)], "not run", ("eot2-pgd-20",)),
    ],
)
def test_twice_the_steps_find_no_more(checked, attacks, outcome, run_next):
    check = checked(attacks)["twice the steps"]
    assert (check.outcome, check.run_next) == (outcome, run_next)


@pytest.mark.parametrize(
    ("attacks", "outcome", "run_next"),
    [
        ([("eot10-pgd-20", 0.3), ("eot20-pgd-20", 0.3)], "passed", ()),
        ([("pgd-20", 0.4), ("eot2-pgd-20", 0.3)], "failed", ("eot4-pgd-20",)),
        ([("eot10-pgd-20", 0.3), ("transfer-pgd-20", 0.1)], "not run", ("eot20-pgd-20",)),
        ([("pgd-20", 0.3)], "not run", ("eot2-pgd-20",)),
        # What averages more finds as much, if it is no longer version of the strongest.
        ([("pgd-100+momentum=1", 0.3), ("eot10-pgd-20", 0.303)], "passed", ()),
        ([("pgd-100+momentum=1", 0.3), ("eot10-pgd-20", 0.31)], "not run", ("eot2-pgd-100+momentum=1",)),
        ([("joint-33", 0.3), ("eot10-pgd-20", 0.5)], "passed", ()),
    ],
)
def test_twice_the_draws_find_no_more(checked, attacks, outcome, run_next):
    check = checked(attacks)["twice the draws"]
    assert (check.outcome, check.run_next) == (outcome, run_next)


def test_nothing_about_draws_is_asked_of_a_deterministic_defence(checked):
    checks = checked([("pgd-10", 0.0)], randomised=False, batch_dependent=False)
    assert {check.outcome for check in checks.values()} == {"passed"}


@pytest.mark.parametrize("batches", [50, 2])
@pytest.mark.parametrize(("transferred", "outcome"), [(0.2, "failed"), (0.35, "passed")])
def test_two_batches_tell_which_attack_found_more_of_them(checked, batches, transferred, outcome):
    attacks = [("eot10-pgd-20", 0.3), ("transfer-pgd-20", transferred), SEARCHED]
    check = checked(attacks, batch=np.arange(EXAMPLES) * batches // EXAMPLES)["transfer or black-box"]
    assert check.outcome == outcome


def test_random_batches_do_not_change_which_attack_found_more_of_the_attacked_ones(evaluation):
    order = np.arange(256) * 89 % 256
    made = evaluation()
    for name, part in (("pgd-10", 0.6), ("pgd-20", 0.52)):
        made.add(name, (order < 256 * part)[:, None], batch_size=128, randomised=False)
    fewer, more = (row for row in case_results(*made.parts()) if row.case.attack.startswith("pgd"))
    members = np.random.default_rng(0).permuted(np.tile(np.arange(256), (8, 1)), axis=1)[:, :128].ravel()
    random = RandomBatches(members, np.repeat(np.arange(1, 9), 128), order[members] < 256 * 0.52)
    scored = replace(more, random_batches=(random,))
    checks = [compared("check", fewer, row, "fault", "pgd-40") for row in (more, scored)]
    assert checks[0] == checks[1]
    assert checks[1].run_next == ("pgd-40",)


def test_a_few_examples_are_too_few_to_tell(evaluation):
    made = evaluation().add("pgd-10", np.arange(32)[:, None] < 16).add("pgd-20", np.arange(32)[:, None] < 15)
    fewer, more = (row for row in case_results(*made.parts()) if row.case.attack.startswith("pgd"))
    check = compared("check", fewer, more, "fault", "pgd-40")
    assert (check.outcome, check.run_next) == ("not run", ())
    assert check.finding.endswith("too few batches or examples to tell.")


def test_who_knows_the_draw_has_none_to_average(checked):
    checks = checked([("aware-pgd-20", 0.3, KNOWN)], threat="batch/known")
    assert checks["twice the draws"].outcome == "passed"
    assert checks["twice the steps"].outcome == "not run"


@pytest.mark.parametrize(
    ("apart", "outcome", "mixed", "asked"),
    [
        (8, "passed", False, ()),
        (12, "passed", False, ()),
        (16, "failed", False, ("mosaic-8",)),
        (16, "failed", True, ("crossover-160",)),
    ],
    ids=["1%", "1.5%", "2%", "2%, starts mixed"],
)
def test_attacks_that_fail_on_different_images_ask_for_what_recombines_them(
    evaluation, apart, outcome, mixed, asked
):
    """Two attacks leave half of the images; so many of them stand under each that the other one takes.
    Crossover is the dearest: the first mixed starts come before it.
    """
    run, number = evaluation(), np.arange(EXAMPLES)
    half = number < EXAMPLES // 2
    moved = (number >= apart) & (number < EXAMPLES // 2 + apart)
    left = {"clean": number >= 0, "random-sign": number >= 0, "pgd-10": half, "apgd-mt-20": moved}
    if mixed:
        left["mosaic-8"] = half
    for name, right in left.items():
        run.add(name, right[:, None], right[:, None], **BASE)
    rows = case_results(*run.parts())
    (row,) = (row for row in rows if row.case.attack == "ensemble" and row.case.perturbation.eps > 0)
    checks = other_attacks(rows, row)
    check = next(check for check in checks if check.name == "attacks agree")
    assert check.outcome == outcome and check.run_next == asked
    assert other_attacks(rows[::-1], row) == checks  # the attacks tie
    assert f"apgd-mt-20 leaves 50.0%, all attacks together {0.5 - apart / EXAMPLES:.1%}" in check.finding


def test_victims_are_not_asked_for_what_cannot_run_on_them(evaluation):
    """Of the 64 victims, one that another attack takes is more than the threshold."""
    run, number = evaluation(), np.arange(64)
    left = {"clean": number >= 0, "random-sign": number >= 0, "pgd-10": number < 40, "apgd-mt-20": number > 0}
    for name, right in left.items():
        answers = right[:, None]
        run.add(name, answers, answers, batch=number, threat="victim/unknown", randomised=False)
    rows = case_results(*run.parts())
    made = next(r for r in rows if r.case.attack == "ensemble" and r.case.perturbation.eps > 0)
    found = {check.name: check for check in other_attacks(rows, made)}
    assert found["attacks agree"].passed and "all attacks together 60.9%" in found["attacks agree"].finding


@pytest.mark.parametrize(
    ("restarted", "apart", "failed"),
    [(False, 16, True), (True, 16, False), (True, 32, False), (True, 48, True)],
)
def test_random_answers_show_that_attacks_fail_on_different_images_too(evaluation, restarted, apart, failed):
    """Mixed starts at their end excuse 2 and 4%, but not 6%."""
    run, number = evaluation(), np.arange(EXAMPLES)
    defence = {"batch_dependent": False, "k": None, "n": None}
    left = {
        "clean": number >= 0,
        "random-sign": number >= 0,
        "pgd-10": number < 400,
        "apgd-mt-20": (number >= apart) & (number < 400 + apart),
        **({"mosaic-8": (number >= apart) & (number < 400 + apart)} if restarted else {}),
    }
    for name, right in left.items():
        answers = np.repeat(right[:, None], 4, axis=1)
        run.add(name, answers, answers, **defence)
    rows = case_results(*run.parts())
    made = next(r for r in rows if r.case.attack == "ensemble" and r.case.perturbation.eps > 0)
    found = {check.name: check for check in other_attacks(rows, made)}
    # Recombining needs points of one example that can be compared: not where answers are random.
    assert found["attacks agree"].failed == failed
    assert found["attacks agree"].run_next == (() if restarted else ("mosaic-8",))


@pytest.mark.parametrize(("apart", "failed"), [(32, False), (48, True)])
def test_searches_that_fail_on_different_images_are_not_at_their_end(evaluation, apart, failed):
    run, number = evaluation(), np.arange(EXAMPLES)
    all_right = number >= 0
    left = {
        "clean": all_right,
        "random-sign": all_right,
        "pgd-10": all_right,
        "square-100": number < 400,
        "random-100": (number >= apart) & (number < 400 + apart),
    }
    for name, right in left.items():
        run.add(name, right[:, None], right[:, None], **BASE)
    rows = case_results(*run.parts())
    made = next(r for r in rows if r.case.attack == "ensemble" and r.case.perturbation.eps > 0)
    (check,) = (check for check in other_attacks(rows, made) if check.name == "attacks agree")
    assert check.failed == failed
    assert "crossover-160" not in check.run_next  # which recombines what gradients found


@pytest.mark.parametrize("defence", [{}, {"batch_dependent": False, "k": None, "n": None}, BASE])
@pytest.mark.parametrize(
    ("attacks", "outcome", "asked"),
    [
        ([], "not run", ("mosaic-8",)),
        ([("mosaic-8", 0.44)], "failed", ("mosaic-16",)),
        ([("mosaic-8", 0.499)], "passed", ()),
        ([("mosaic-8", 0.7)], "passed", ()),
        ([("mosaic-8", 0.44), ("mosaic-16", 0.4)], "failed", ("mosaic-32",)),
        ([("mosaic-8", 0.44), ("mosaic-16", 0.439)], "passed", ()),
        ([("relaxed-mosaic-8", 0.44)], "failed", ("relaxed-mosaic-16",)),
    ],
)
def test_mixed_starts_are_doubled_while_they_find_half_a_point_more(
    checked, defence, attacks, outcome, asked
):
    check = checked([("pgd-100", 0.5), ("apgd-mt-20", 0.52), *attacks], **defence)["twice the restarts"]
    assert (check.outcome, check.run_next) == (outcome, asked)


def test_mixed_starts_alone_have_nothing_to_be_compared_with(checked):
    check = checked([("mosaic-16", 0.4)])["twice the restarts"]
    assert (check.outcome, check.run_next) == ("not run", ("pgd-20",))


def test_restarts_need_gradients_and_something_to_find(checked):
    for attacks in ([("rays-400", 0.5)], [("pgd-100", 0.002)]):
        assert checked(attacks)["twice the restarts"].outcome == "passed"


def test_starts_are_not_doubled_as_steps_nor_averaged_over_more_draws(checked):
    found = checked([("pgd-100", 0.5), ("pgd-200", 0.5), ("eot2-pgd-100", 0.5), ("mosaic-8", 0.3)])
    assert found["twice the steps"].outcome == "passed"
    assert found["twice the draws"].outcome == "passed"


def test_advice_leaves_out_what_ran():
    asked = ("crossover-160", "apgd-mt-20", "pgd-20")
    check = Check(CheckName.ATTACKS_AGREE, CheckOutcome.FAILED, "They do not.", (), asked)
    (left,) = advised([check], "linf", {"crossover-160", "relaxed-apgd-mt-20"})
    assert left.run_next == ("pgd-20",)
    assert advised([check], "linf", {*asked})[0].run_next == ()


@pytest.mark.parametrize(
    ("low", "estimate", "high", "outcome"),
    [
        (0.001, 0.02, 0.04, "failed"),
        (-0.001, 0.02, 0.04, "passed"),
        (0.001, 0.004, 0.007, "passed"),  # certain, and of no concern
        (-0.05, -0.01, 0.03, "passed"),
        (-0.05, 0.02, 0.09, "not run"),  # could not have failed
    ],
)
def test_a_comparison_fails_on_a_certain_difference_of_some_size(
    evaluation, monkeypatch, low, estimate, high, outcome
):
    row = case_results(*evaluation().add("pgd-10", np.ones((16, 1))).parts())[0]
    difference = Difference(estimate, low, high, 0.5, 0.5 - estimate, 800)
    monkeypatch.setattr(module, "in_own_batches", lambda *args: difference)
    check = compared("check", row, row, "fault", "pgd-20")
    assert check.outcome == outcome
    assert check.run_next == (("pgd-20",) if outcome == "failed" else ())
