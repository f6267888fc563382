"""M submissions of each input against defences of which the truth is known for every M."""

import pytest

from robustbench_coded import evaluate
from robustbench_coded.judge.summary import survival
from robustbench_coded.schema.words import ENSEMBLE
from zoo.registry import ZOO

pytestmark = pytest.mark.long

EVERY = range(1, 101)


@pytest.mark.parametrize(("name", "limit"), [("coin-flip", 128), ("noise-wide", None)])
def test_the_intervals_of_1_to_100_submissions_hold_the_truth(tmp_path, name, limit):
    run = evaluate(
        defences=[name], limit=limit, attacks="fgsm", draws=100, selection_draws=1, submissions=100,
        batch_size=(128,), seed=3, threads=1, out=tmp_path / "run",
    )  # fmt: skip
    (result,) = (result for result in run.results if result.case.attack == ENSEMBLE)
    points = {times: survival(result, times) for times in EVERY}
    known = ZOO[name].load()
    truth = {submissions: known.submitted(submissions) for submissions in EVERY}
    assert list(points) == list(EVERY) and truth[1] == known.truth("batch/unknown")
    held = [points[m].low <= truth[m].low and truth[m].high <= points[m].high for m in EVERY]
    assert sum(held) >= 95  # of intervals that hold 95% each, and share their draws
    estimates = [points[m].estimate for m in EVERY]
    assert estimates == sorted(estimates, reverse=True) and estimates[0] > estimates[-1] + 0.05
    (row,) = (row for row in run.rows if row.attack == ENSEMBLE)
    assert row.survival == points[100]
    assert row.as_columns()["accuracy_submissions"] == pytest.approx(points[100].estimate, abs=1e-6)
