"""Means, differences and corruption errors against closed forms and planted truths."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import ttest_rel

from robustbench_coded.judge.intervals import clopper_pearson
from robustbench_coded.judge.outcomes import Cell
from robustbench_coded.paper.shift.estimates import (
    Answers,
    ShiftRun,
    accuracy,
    corruption_error,
    difference,
    means_of,
)
from robustbench_coded.paper.shift.report import write_shift_report
from robustbench_coded.paper.shift.sets import ShiftSet
from robustbench_coded.schema.case import Subject

EXAMPLES, K = 200, 20


def sets(*named):
    return [ShiftSet("c", name, severity, "") for name, severity in named]


def answers_in(right, *, clustered=False, k=K):
    """Answers [examples, draws] of each set, in batches of k."""
    about = (np.arange(EXAMPLES), np.arange(EXAMPLES) // k, np.ones(EXAMPLES, np.int64))
    cells = {one: Cell(*about, np.arange(own.shape[1]), own.astype(np.int32)) for one, own in right.items()}
    return Answers(Subject("a", "standard", None, None), cells, clustered)


def subject(chosen, shares, seed, *, draws=1, **how):
    generator = np.random.RandomState(seed)
    drawn = [generator.rand(EXAMPLES, draws) < share for share in shares]
    return answers_in(dict(zip(chosen, drawn, strict=True)), **how)


def right_of(answers):
    return {one: cell.correct for one, cell in answers.cells.items()}


FOG = sets(("fog", 1), ("fog", 2), ("frost", 1))


def test_one_set_has_the_exact_interval():
    answers = subject(FOG, (0.9, 0.5, 0.2), 0)
    found = accuracy(answers, FOG[:1])
    right = int(answers.cells[FOG[0]].correct.sum())
    assert (found.low, found.high) == pytest.approx(clopper_pearson(right, EXAMPLES, 0.025))


def test_a_mean_over_alike_sets_is_known_no_better_than_one_of_them():
    answers = subject(FOG, (0.7, 0.7, 0.7), 0)
    same = answers_in(dict.fromkeys(FOG, right_of(answers)[FOG[0]]))
    one, three = accuracy(same, FOG[:1]), accuracy(same, FOG)
    assert three.value == one.value
    assert (three.low, three.high) == pytest.approx((one.low, one.high), abs=6e-3)
    apart = accuracy(answers, FOG)
    assert apart.high - apart.low < 0.7 * (one.high - one.low)


def test_differences_of_means_are_students_paired_interval():
    one, other = subject(FOG, (0.9, 0.6, 0.4), 1), subject(FOG, (0.8, 0.6, 0.2), 2)
    found = difference(one, other, FOG)
    student = ttest_rel(one.values(FOG), other.values(FOG)).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((student.low, student.high))


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("chosen", [FOG[:1], FOG], ids=["one set", "several sets"])
def test_equal_answers_still_leave_what_0_of_n_leaves(chosen, clustered):
    answers = subject(FOG, (0.9, 0.5, 0.2), 0, clustered=clustered)
    alike = answers_in(right_of(answers), clustered=clustered)
    found = difference(answers, alike, chosen)
    fewest, most = (clopper_pearson(0, n, 0.025)[1] for n in (EXAMPLES, EXAMPLES / K))
    assert found.value == 0 and found.low == -found.high
    assert fewest < found.high <= most * 1.0001 if clustered else found.high == pytest.approx(fewest)
    ratio = corruption_error(answers, alike, chosen)
    assert ratio.low < ratio.value == 1 < ratio.high


def test_what_every_example_shares_is_not_known_exactly():
    always = subject(FOG, (1.1, 1.1, -0.1), 0)  # right under two sets of three, whatever the example
    never = subject(FOG, (-0.1, -0.1, 1.1), 0)
    unseen = clopper_pearson(0, EXAMPLES, 0.025)[1]
    assert accuracy(always, FOG) == pytest.approx((2 / 3, 2 / 3 * (1 - unseen), 2 / 3 + unseen / 3))
    third = difference(always, never, FOG)
    assert third == pytest.approx((1 / 3, 1 / 3 - 4 / 3 * unseen, (1 + 2 * unseen) / 3))
    assert difference(always, never, FOG[:2]) == pytest.approx((1, 1 - 2 * unseen, 1))


def test_more_answers_that_differ_never_narrow_an_interval():
    answers = subject(FOG, (0.9, 0.5, 0.2), 0)
    widths = []
    for changed in range(4):
        right = {one: column.copy() for one, column in right_of(answers).items()}
        right[FOG[0]][:changed] ^= True
        found = difference(answers, answers_in(right), FOG)
        widths.append(found.high - found.low)
    assert widths == sorted(widths)


def test_batches_that_fall_as_one_widen_every_interval():
    plain = subject(FOG, (0.5, 0.5, 0.5), 3)
    whole = {one: np.repeat(right[:: EXAMPLES // 10], 20, axis=0) for one, right in right_of(plain).items()}
    alike = answers_in(whole, clustered=True)
    base = subject(FOG, (0.5, 0.5, 0.5), 4)
    for of in (lambda a: accuracy(a, FOG), lambda a: difference(a, base, FOG)):
        narrow, wide = of(plain), of(alike)
        assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


@pytest.mark.parametrize(("k", "clustered"), [(50, False), (10, True)], ids=["one by one", "smaller"])
def test_answers_in_batches_are_paired_over_the_largest_of_these(k, clustered):
    one = subject(FOG, (0.9, 0.6, 0.4), 1, clustered=True, draws=2)
    other = subject(FOG, (0.8, 0.6, 0.2), 2, clustered=clustered, k=k)
    means = [answers.values(FOG).reshape(-1, K).mean(axis=1) for answers in (one, other)]
    student = ttest_rel(*means).confidence_interval(0.95)
    for sign, found in ((1, difference(one, other, FOG)), (-1, difference(other, one, FOG))):
        ends = sorted(sign * end for end in (found.low, found.high))
        assert ends == pytest.approx((student.low, student.high))


def test_the_corruption_error_is_a_mean_of_ratios_of_sums_over_severities():
    base, answers = subject(FOG, (0.8, 0.6, 0.5), 5), subject(FOG, (0.9, 0.8, 0.5), 6)

    def errors(one, *chosen):
        return sum(1 - one.cells[FOG[i]].correct.mean() for i in chosen)

    found = corruption_error(answers, base, FOG)
    expected = (errors(answers, 0, 1) / errors(base, 0, 1) + errors(answers, 2) / errors(base, 2)) / 2
    assert found.value == pytest.approx(expected) and found.low < expected < found.high
    itself = corruption_error(base, base, FOG)
    assert itself == pytest.approx((1, 1, 1))
    assert corruption_error(answers, subject(FOG, (1.1, 1.1, 1.1), 0), FOG) is None


def test_the_interval_of_a_corruption_error_covers():
    truth = (0.1 / 0.3 + 0.4 / 0.5) / 2
    chosen = sets(("fog", 1), ("frost", 1))
    covered = 0
    for seed in range(200):
        base, answers = subject(chosen, (0.7, 0.5), 2 * seed), subject(chosen, (0.9, 0.6), 2 * seed + 1)
        found = corruption_error(answers, base, chosen)
        covered += found.low <= truth <= found.high
    assert 180 <= covered <= 199


def run_of(path, lacking):
    """Runs of all sets in which these (defence, set's name) have no answers to some examples."""
    case = {name: Subject("a", name, None, None) for name in ("standard", "coded")}
    facts = SimpleNamespace(name="a", arch="net", sha256="0", metadata={})
    manifest = SimpleNamespace(
        checkpoints=[facts], identity=SimpleNamespace(limit=None, seed=0), notes=[],
        last=SimpleNamespace(options={"batch_size": [K]}, command=(), versions={"csrobust": "0"}),
    )  # fmt: skip
    own = subject(FOG, (0.9, 0.6, 0.4), 1)
    runs = {}
    for one in FOG:
        rows = [
            SimpleNamespace(
                case=SimpleNamespace(attack="clean", subject=case[name]), cell=own.cells[one],
                complete=(name, one.name) not in lacking, batch_dependent=False, randomised=False,
            )
            for name in case
        ]  # fmt: skip
        runs[one] = SimpleNamespace(results=rows, manifest=manifest)
    return ShiftRun(path, runs)


@pytest.mark.parametrize(
    ("lacking", "left", "said"),
    [
        (set(), {"standard", "coded"}, "Baseline: standard inference of a."),
        ({("coded", "frost")}, {"standard"}, "on a is incomplete and left out"),
        ({("standard", "fog")}, {"coded"}, "which is not complete: there are no differences"),
        ({("standard", "fog"), ("coded", "fog")}, set(), "which is not complete: there are no differences"),
    ],
)
def test_a_subject_without_answers_to_a_set_has_no_figures_and_is_named(tmp_path, lacking, left, said):
    run = run_of(tmp_path, lacking)
    write_shift_report(run)
    assert {row.subject.defence for row in run.rows} == left
    assert any(row.difference for row in run.rows) == (len(left) == 2)
    assert said in (tmp_path / "report.md").read_text()


def test_means_are_named_by_what_they_are_over():
    assert list(means_of(FOG)) == ["mean of 2", "fog", "frost", "severity 1", "severity 2"]
    assert means_of(sets(("v6", 0))) == {}
