"""Estimate, interval and number of images of every cell of the committed tables, from the same outcomes."""

import csv
import math

import numpy as np
import pytest
from scipy.stats import beta

from benchmarks.evidence import REPORTS, listed
from robustbench_coded.judge.anytime import upper_end
from robustbench_coded.judge.judge import base_ensemble
from robustbench_coded.judge.paired import paired_difference
from robustbench_coded.run import load_run
from robustbench_coded.schema.words import COMBINED, ENSEMBLE

RUNS = [path.parent for path in listed(REPORTS, "**/run.json")]
TAIL = 0.025


def exact(right, count, tail):
    """The exact binomial interval, by scipy's beta distribution."""
    low = beta.ppf(tail, right, count - right + 1) if right > 0 else 0.0
    return low, beta.ppf(1 - tail, right + 1, count - right) if right < count else 1.0


def bets(scored, tail):
    """The wider of bets over batches and over images."""
    units = []
    for group in (scored.number, scored.example):
        code, counts = np.unique(group, return_inverse=True, return_counts=True)[1:]
        units.append(np.bincount(code, weights=scored.correct) / counts)
    return min(-upper_end(-u, tail, 0.0) for u in units), max(upper_end(u, tail) for u in units)


def recomputed(result, row):
    """Accuracy, both ends and images of a row, None for ends that it must not have."""
    cell, looks, case = result.cell, max(result.looks, 1), result.case
    knows = case.threat.draw_known and case.attack not in ("clean", "random-sign")
    scored = [] if knows else list(result.random_batches)
    if case.threat.one_victim:
        scored = scored if any(one.batches > len(cell.example) for one in scored) else []
    tail = TAIL / looks / max(len(scored), 1)
    if scored:
        victims = case.threat.one_victim
        ends = [exact(one.correct.sum(), one.batches, tail) if victims else bets(one, tail) for one in scored]
        best = min(range(len(ends)), key=lambda i: ends[i][1])
        one = scored[best]
        mean = np.mean([one.correct[one.number == number].mean() for number in np.unique(one.number)])
        low = min(end[0] for end in ends)
        if case.attack == "ensemble" and not result.combination.all_near_in_random:
            low = 0.0
        return mean, low, ends[best][1], len(np.unique(one.example))
    mean, images = cell.correct.mean(), len(cell.example)
    if knows or result.batch_dependent or row["interval_kind"] == "":
        return mean, None, None, images
    low, high = exact(mean * images, images, tail)
    return mean, low, high, images


@pytest.mark.parametrize("path", RUNS, ids=lambda path: str(path.relative_to(REPORTS)))
def test_every_cell_is_of_its_own_outcomes(path):
    with (path / "summary.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    run = load_run(path)
    assert len(lines) == len(run.results)
    for line, result in zip(lines, run.results, strict=True):
        if not line["accuracy"]:
            continue
        mean, low, high, images = recomputed(result, line)
        assert int(line["examples"]) == images and math.isclose(float(line["accuracy"]), mean, abs_tol=2e-6)
        if low is None:
            assert line["ci_low"] == line["ci_high"] == ""
            shared = result.randomised and not result.batch_dependent
            assert result.batch_dependent or result.case.threat.draw_known or shared
            continue
        ends = float(line["ci_low"]), float(line["ci_high"])
        assert ends[0] <= float(line["accuracy"]) <= ends[1], line["attack"]
        if line["batches"] == "0" and result.randomised:  # a batch may share its draws: then it is wider
            assert ends[0] <= low + 2e-6 and ends[1] >= high - 2e-6
        else:
            assert ends == pytest.approx((low, high), abs=2e-6), (line["attack"], line["threat"])


@pytest.mark.parametrize("path", RUNS, ids=lambda path: str(path.relative_to(REPORTS)))
def test_gains_in_random_batches_subtract_the_base_on_the_same_images(path):
    run = load_run(path)
    for result in run.results:
        base = base_ensemble(run.results, result) if result.case.attack == ENSEMBLE else None
        if base is None or not result.in_random_batches or result.case.threat.one_victim:
            continue
        share = TAIL / max(result.looks, 1) / len(result.random_batches)
        played = min(result.random_batches, key=lambda scored: bets(scored, share)[1])
        common = np.isin(base.cell.example, played.example)
        gain, own = paired_difference(result, base), result.interval()
        left = base.cell.correct[common].mean()
        expected = (own.estimate - left, own.low - left, own.high - left)
        if gain.kind is None:  # the base model did not meet all of them
            assert not np.isin(played.example, base.cell.example).all() or base.batch_dependent
            continue
        assert (gain.estimate, gain.low, gain.high) == pytest.approx(expected, abs=1e-9)
        assert gain.examples == len(np.unique(played.example)) == common.sum()


def test_a_combined_row_is_looked_at_in_some_run():
    results = [result for path in RUNS for result in load_run(path).results]
    assert any(result.case.attack in COMBINED and result.random_batches for result in results)
