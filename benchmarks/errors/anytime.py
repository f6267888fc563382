"""How often an interval is ever wrong if it is looked at all along, and how soon it settles a word.

    python benchmarks/errors/anytime.py               prints the tables (about 5 minutes on one core)
    python benchmarks/errors/anytime.py --write       and puts them into benchmarks/errors/intervals.md
    python benchmarks/errors/anytime.py --only NAME   one of answers, batches, differences

A run errs at an end where that end was on the wrong side of the population accuracy at any look. Disjoint
batches are looked at where a run may stop: of 40, after 2, 4, 8, 16 and 40, at a fifth of the error each.
Random batches are looked at all along in `coverage_random_batches.py`.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.errors.coverage import SEED, SIMULATIONS, TAIL, write
from benchmarks.errors.coverage_populations import (
    K,
    Pair,
    Population,
    above_base,
    correlated,
    survival,
    two_kinds,
)
from robustbench_coded.evaluation.planning import comparisons
from robustbench_coded.judge.anytime import mixture_interval
from robustbench_coded.judge.correlation import pooled
from robustbench_coded.judge.intervals import clopper_pearson, clustered_interval
from robustbench_coded.judge.paired import clustered_difference

ANSWERS, BATCHES = 640, 40
ACCURACIES = (0.5, 0.1, 0.02, 0.005)
POPULATIONS = (
    correlated(0.5, 0),
    correlated(0.02, 0),
    correlated(0.9, 0.1),
    correlated(0.5, 0.3),
    correlated(0.02, 0.5),
    correlated(0.1, 1),
    survival(0.2, 0.05),
    two_kinds(0.15, 0.9, 0.02),
)
PAIRED_BATCHES = 16
PAIRS = (
    above_base(0.5, 0, 0.4),
    above_base(0.2, 0.1, 0.05),
    above_base(0.9, 0.3, 0.9),
    above_base(0.1, 1, 0.0),
)

Floats = NDArray[np.float64]


def looks_at(batches: int) -> tuple[tuple[int, ...], float]:
    """The batches at each look of so many, and the share of the error that a look has."""
    sizes = comparisons.sample_sizes(batches * K, K)
    looks = tuple(size // K for size in sizes)
    return looks, TAIL / len(looks)


@dataclass
class Ever:
    """Shares of runs that ever erred at an end, and the mean width of the last look."""

    above: float
    below: float
    width: float

    def __str__(self) -> str:
        return f"{self.above:.1%} | {self.below:.1%} | {self.width:.4f}"


def ever_of(ends: Floats, truth: float) -> Ever:
    """From [runs, looks, 2]."""
    return Ever(
        float(np.any(ends[..., 0] > truth, axis=1).mean()),
        float(np.any(ends[..., 1] < truth, axis=1).mean()),
        float((ends[:, -1, 1] - ends[:, -1, 0]).mean()),
    )


def answer_table(simulations: int) -> Iterator[str]:
    """Single answers, looked at after every one of 640."""
    yield (
        f"| accuracy | interval | lower end ever errs | upper end ever errs | mean width after {ANSWERS} "
        "| answers until it is below 14.6% |"
    )
    yield "| ---: | --- | ---: | ---: | ---: | ---: |"
    trials = np.arange(1, ANSWERS + 1)
    right = np.minimum(np.arange(ANSWERS + 1), trials[:, None])
    of_each = [[clopper_pearson(count, many, TAIL) for count in range(many + 1)] for many in trials.tolist()]
    exact = np.full((*right.shape, 2), np.nan)
    for row, ends in enumerate(of_each):
        exact[row, : len(ends)] = ends
    tables = {
        "one-sided beta-binomial mixture": np.stack(mixture_interval(right, trials[:, None], TAIL), axis=-1),
        "Clopper and Pearson at every look": exact,
    }
    for accuracy in ACCURACIES:
        rng = np.random.default_rng(SEED)
        counted = (rng.random((simulations, ANSWERS)) < accuracy).cumsum(axis=1)
        for name, table in tables.items():
            ends = table[np.arange(ANSWERS), counted]
            below = ends[..., 1] < 0.146
            settled = f"{np.median(below.argmax(axis=1) + 1):.0f}" if below.any(axis=1).all() else ""
            yield f"| {accuracy:g} | {name} | {ever_of(ends, accuracy)} | {settled} |"


def of_batches(population: Population, simulations: int) -> Ever:
    """An accuracy from disjoint batches."""
    rng, batch = np.random.default_rng(SEED), np.repeat(np.arange(BATCHES), K)
    looks, share = looks_at(BATCHES)
    ends = np.empty((simulations, len(looks), 2))
    for run in range(simulations):
        evaluation = population.simulate(rng, batch)
        for look, batches in enumerate(looks):
            part = slice(0, batches * K)
            attacked, controls = (
                [(correct[part], batch[part]) for correct in rows]
                for rows in (evaluation.weaker, evaluation.clean)
            )
            known = pooled(attacked, controls)
            ends[run, look] = clustered_interval(evaluation.judged[part], batch[part], share, known)
    return ever_of(ends, population.truth)


def of_differences(pair: Pair, simulations: int) -> Ever:
    """The difference to a base model from disjoint batches."""
    rng, batch = np.random.default_rng(SEED), np.repeat(np.arange(PAIRED_BATCHES), K)
    looks, share = looks_at(PAIRED_BATCHES)
    ends = np.empty((simulations, len(looks), 2))
    for run in range(simulations):
        rows = pair.simulate(rng, batch)
        for look, batches in enumerate(looks):
            part = slice(0, batches * K)
            left, right = (correct[part] for correct in rows)
            known = pooled([(left, batch[part])])
            ends[run, look] = clustered_difference(
                left, right, batch[part], share, right_clustered=False, correlation=known
            )
    return ever_of(ends, pair.truth)


HEAD = "lower end ever errs | upper end ever errs | mean width at last |"


def batch_table(simulations: int) -> Iterator[str]:
    """Markdown, one line a population."""
    yield f"| population | {HEAD}"
    yield "| --- | ---: | ---: | ---: |"
    for population in POPULATIONS:
        yield f"| {population.name} | {of_batches(population, simulations)} |"


def difference_table(simulations: int) -> Iterator[str]:
    """Markdown, one line a pair."""
    yield f"| difference of | {HEAD}"
    yield "| --- | ---: | ---: | ---: |"
    for pair in PAIRS:
        yield f"| {pair.name} | {of_differences(pair, simulations)} |"


TABLES = {"answers": answer_table, "batches": batch_table, "differences": difference_table}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--write", action="store_true", help="put the tables into benchmarks/errors/intervals.md"
    )
    parser.add_argument("--only", choices=TABLES, help="this table alone")
    parser.add_argument("--simulations", type=int, default=SIMULATIONS, help="runs simulated per line")
    options = parser.parse_args()
    for name in [options.only] if options.only else TABLES:
        lines = []
        for line in TABLES[name](options.simulations):
            print(line, flush=True)
            lines.append(line)
        if options.write:
            write(f"anytime-{name}", "\n".join(lines))


if __name__ == "__main__":
    main()
