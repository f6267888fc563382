"""The worst cases of two defences are compared over the attacks that ran on both, counted out again here."""

import shutil

import numpy as np
import pandas as pd
import pytest

from robustbench_coded.judge.anytime import RandomBatches
from robustbench_coded.reports.compare.comparison import compare
from tests.reports.test_recomputed import bets, exact

SHARES = {"clean": 0.9, "random-sign": 0.8, "pgd-10": 0.5, "transfer-pgd-20": 0.52}


@pytest.fixture
def runs(make_run, subject):
    """``runs(second)``: noise in one run and another defence in another, each with attacks of its own."""

    def make(second):
        own = f"from:{second.defence}{f':N={second.n}' if second.n else ''}/pgd-10+bits=8"
        for seed, of, lower in ((0, subject("erm", "noise"), "square-50"), (1, second, "apgd-mt-20")):
            itself = "from:noise/pgd-10+bits=8" if seed == 0 else own
            shares = {**SHARES, itself: 0.55, lower: 0.2}
            accuracies = {(name, "batch/unknown"): (None, share) for name, share in shares.items()}
            path = make_run("ab"[seed], subjects=[of], accuracies=accuracies, seed=seed, batch_size=1)
            yield path, ["pgd-10", "transfer-pgd-20", itself, "random-sign", "clean"]

    return make


def answers(path, attacks):
    """[attacks, images, draws], whether each answer is right, by purpose."""
    frame = pd.read_parquet(path / "outcomes.parquet")
    frame["right"] = frame["prediction"] == frame["label"]
    of = frame.set_index(["purpose", "attack"]).sort_index()
    shown = {"index": "example", "columns": "draw", "values": "right"}
    purposes = ("selection", "scoring")
    return [np.stack([of.loc[(purpose, name)].pivot(**shown) for name in attacks]) for purpose in purposes]


def worst_case(path, attacks):
    """[images, draws] of the attack that is lowest for each image on other draws, if choosing pays."""
    seen, scored = answers(path, attacks)
    best, rows, half = seen.mean(axis=(1, 2)).argmin(), np.arange(seen.shape[1]), seen.shape[2] // 2

    def lowest(right):
        counts = right.sum(axis=2)
        return np.where(counts[best] == counts.min(axis=0), best, counts.argmin(axis=0))

    parts = (seen[:, :, :half], seen[:, :, half:])
    chosen = [b[lowest(a), rows].mean() for a, b in (parts, parts[::-1])]
    return scored[lowest(seen), rows] if np.mean(chosen) < seen[best].mean() else scored[best]


def test_two_defences_answer_by_image(runs, subject):
    """The difference of paired images, its interval that of two exact ones joined (Zou and Donner)."""
    (a, ours), (b, theirs) = runs(subject("erm", "blur"))
    first, second = worst_case(b, theirs), worst_case(a, ours)
    only = [first & ~second, second & ~first]
    shares, n = [part.mean() for part in only], len(first)
    both = (only[0].mean(axis=1) * only[1].mean(axis=1)).mean()

    def reach(a, b):
        """The most negative correlation lies at the upper end of the other share."""
        x, down, y = (
            shares[a],
            shares[a] - exact(shares[a] * n, n, 0.025)[0],
            exact(shares[b] * n, n, 0.025)[1],
        )
        r = max((both - x * y) / np.sqrt(x * (1 - x) * y * (1 - y)), -1)
        return np.sqrt(down**2 + (y - shares[b]) ** 2 - 2 * r * down * (y - shares[b]))

    joined = [reach(0, 1), reach(1, 0)]
    estimate = first.mean() - second.mean()
    found = compare([a, b])
    (pair,) = found.compared
    expected = (estimate, estimate - joined[0], estimate + joined[1])
    assert (pair.worst.estimate, pair.worst.low, pair.worst.high) == pytest.approx(expected)
    assert pair.common == 3  # PGD-10, transfer and what each was shown of its own
    assert [text.split(":")[0] for text in found.lower] == ["blur on erm in b", "noise on erm in a"]
    (same,) = compare([b, a]).compared
    assert same.worst.estimate == pytest.approx(-estimate)


def test_one_answers_in_batches_at_half_of_the_error_each(runs, subject):
    (a, ours), (b, theirs) = runs(subject("erm", "rci", 32, 48, random_batches=60))
    frame = pd.read_parquet(b / "outcomes.parquet")
    frame = frame[(frame["purpose"] == "random") & frame["attack"].isin(theirs[:-1])]  # not clean inputs
    frame = frame.assign(right=frame["prediction"] == frame["label"])
    groups = [group for _, group in frame.groupby("attack", observed=True)]
    parts = [RandomBatches(*(of[name].to_numpy() for name in ("example", "draw", "right"))) for of in groups]
    ends = [bets(part, 0.0125 / len(parts)) for part in parts]
    played = min(range(len(parts)), key=lambda i: ends[i][1])
    noise = worst_case(a, ours)
    low, high = exact(noise.mean() * len(noise), len(noise), 0.0125)
    (pair,) = compare([a, b]).compared
    assert (pair.worst.first, pair.worst.second) == pytest.approx((parts[played].accuracy, noise.mean()))
    assert pair.worst.low == pytest.approx(min(of[0] for of in ends) - high)
    assert pair.worst.high == pytest.approx(ends[played][1] - low)


def test_a_run_and_its_copy_are_identical(make_run, tmp_path):
    path = make_run("a")
    shutil.copytree(path, tmp_path / "copy")
    found = compare([path, tmp_path / "copy"])
    cells = [cell for row in found.tables[0].rows[2:] for cell in row.cells if cell.line and not cell.attack]
    assert not found.compared and {(c.difference.low, c.difference.high) for c in cells} == {(0, 0)}
    assert {text for row in found.tables[0].rows[2:] for text in row.ends[:2]} == {"identical"}
