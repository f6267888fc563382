"""How often an interval is ever wrong if it is looked at all along, and how soon it settles a word.

    python benchmarks/anytime.py               prints the tables (about 15 minutes on one core)
    python benchmarks/anytime.py --write       and puts them into docs/numbers.md
    python benchmarks/anytime.py --only NAME   one of answers, batches, differences

A run errs at an end where that end was on the wrong side of the population accuracy at any look. The looks of
batches are those of `eval --until settled` at 40 batches: after 8, 16 and 40. Differences to a base model are
looked at as it does at 16 batches: after 8 and 16.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from anytime_betting import betting_difference, betting_sequence
from anytime_finite import finite_interval
from coverage import populations, write
from coverage_populations import K, Pair, Population, above_base
from numpy.typing import NDArray
from robustbench_coded.evaluation.planning.rounds import looks_of, rounds_of

from robustbench_coded.statistics.anytime.mixture import mixture_interval
from robustbench_coded.statistics.clustered import clopper_pearson, clustered_interval
from robustbench_coded.statistics.correlation import pooled
from robustbench_coded.statistics.difference import clustered_difference

SIMULATIONS, SEED, TAIL = 2000, 0, 0.025
ANSWERS, BATCHES = 640, 40
ACCURACIES = (0.5, 0.1, 0.02, 0.005)
PAIRED_BATCHES = 16
PAIRS = (
    above_base(0.5, 0, 0.4),
    above_base(0.2, 0.1, 0.05),
    above_base(0.02, 0.1, 0.0),
    above_base(0.05, 0.3, 0.03),
    above_base(0.9, 0.3, 0.9),
    above_base(0.1, 1, 0.0),
)


def looks_at(batches: int) -> tuple[tuple[int, ...], float]:
    """The batches at each look of so many, and the share of the error that a look has.

    The last round is looked at once more, after all attacks have run.
    """
    ends = rounds_of(batches * K, K)
    looks = tuple(ends[number - 1] // K for number in looks_of(ends, K, batch_dependent=True))
    return looks, TAIL / (len(looks) + 1)


Bools = NDArray[np.bool_]


@dataclass
class Ever:
    """Which runs ever erred at an end, and the widths of the last look."""

    above: Bools
    below: Bools
    width: float

    def __str__(self) -> str:
        return f"{self.above.mean():.1%} | {self.below.mean():.1%} | {self.width:.4f}"


def ends_by_count(method: Callable[[int, int], tuple[float, float]], looks: range) -> NDArray[np.float64]:
    """[looks, right answers, 2]: an interval for each number of right answers at each look."""
    table = np.full((len(looks), looks[-1] + 1, 2), np.nan)
    for row, answers in enumerate(looks):
        for right in range(answers + 1):
            table[row, right] = method(right, answers)
    return table


def of_answers(simulations: int) -> Iterator[str]:
    """Single answers: looked at after every one of 640, and after every sixteenth for the finite set."""
    yield (
        f"| accuracy | interval | ever above the truth | ever below the truth | mean width after {ANSWERS} "
        "| answers until it is below 14.6% |"
    )
    yield "| ---: | --- | ---: | ---: | ---: | ---: |"
    every, some = range(1, ANSWERS + 1), range(16, ANSWERS + 1, 16)
    right, trials = np.meshgrid(np.arange(ANSWERS + 1), np.array(every))
    sequence = np.stack(mixture_interval(np.minimum(right, trials), trials, TAIL), axis=-1)
    methods = {
        "one-sided beta-binomial mixture": (every, sequence),
        "Clopper and Pearson at every look": (
            every,
            ends_by_count(lambda s, n: clopper_pearson(s, n, TAIL), every),
        ),
        f"all {2 * ANSWERS} of a finite set": (
            some,
            ends_by_count(lambda s, n: finite_interval(s, n, 2 * ANSWERS, TAIL), some),
        ),
    }
    for accuracy in ACCURACIES:
        rng = np.random.default_rng(SEED)
        answers = rng.random((simulations, 2 * ANSWERS)) < accuracy
        for name, (looks, table) in methods.items():
            counted = answers[:, :ANSWERS].cumsum(axis=1)[:, np.array(looks) - 1]
            ends = table[np.arange(len(looks)), counted]
            finite = table is methods[f"all {2 * ANSWERS} of a finite set"][1]
            truth = answers.mean(axis=1)[:, None] if finite else accuracy
            ever = Ever(
                (ends[..., 0] > truth + 1e-12).any(axis=1),
                (ends[..., 1] < truth - 1e-12).any(axis=1),
                float((ends[:, -1, 1] - ends[:, -1, 0]).mean()),
            )
            below = ends[..., 1] < 0.146
            first = np.array(looks)[below.argmax(axis=1)]
            settled = f"{np.median(first):.0f}" if below.any(axis=1).all() else ""
            yield f"| {accuracy:g} | {name} | {ever} | {settled} |"


def of_batches(population: Population, simulations: int) -> tuple[Ever, Ever]:
    """Batches: the run's own interval at its share of the error a look, and betting after every batch."""
    rng, batch = np.random.default_rng(SEED), np.repeat(np.arange(BATCHES), K)
    looks, share = looks_at(BATCHES)
    shares = np.empty((simulations, BATCHES))
    ends = np.empty((simulations, len(looks), 2))
    for run in range(simulations):
        evaluation = population.simulate(rng, batch)
        shares[run] = evaluation.judged.reshape(BATCHES, -1).mean(axis=1)
        for look, batches in enumerate(looks):
            part = slice(0, batches * K)
            attacked, controls = (
                [(correct[part], batch[part]) for correct in rows]
                for rows in (evaluation.weaker, evaluation.clean)
            )
            known = pooled(attacked, controls)
            ends[run, look] = clustered_interval(evaluation.judged[part], batch[part], share, known)
    betting = np.stack(betting_sequence(shares, TAIL), axis=-1)
    return ever_of(ends, population.truth), ever_of(betting, population.truth)


def of_differences(pair: Pair, simulations: int) -> tuple[Ever, Ever]:
    """Differences to a base model: the run's own interval at its share of the error a look, and betting."""
    rng, batch = np.random.default_rng(SEED), np.repeat(np.arange(PAIRED_BATCHES), K)
    looks, share = looks_at(PAIRED_BATCHES)
    means = np.empty((2, simulations, PAIRED_BATCHES))
    ends = np.empty((simulations, len(looks), 2))
    for run in range(simulations):
        rows = pair.simulate(rng, batch)
        means[:, run] = [correct.reshape(PAIRED_BATCHES, -1).mean(axis=1) for correct in rows]
        for look, batches in enumerate(looks):
            part = slice(0, batches * K)
            left, right = (correct[part] for correct in rows)
            known = pooled([(left, batch[part])])
            ends[run, look] = clustered_difference(
                left, right, batch[part], share, right_clustered=False, correlation=known
            )
    betting = np.stack(betting_difference(means[0], means[1], TAIL), axis=-1)
    return ever_of(ends, pair.truth), ever_of(betting, pair.truth)


def ever_of(ends: NDArray[np.float64], truth: float) -> Ever:
    """From [runs, looks, 2]."""
    return Ever(
        np.any(ends[..., 0] > truth, axis=1),
        np.any(ends[..., 1] < truth, axis=1),
        float((ends[:, -1, 1] - ends[:, -1, 0]).mean()),
    )


HEAD = (
    "the run's interval: ever above the truth | ever below | width at last "
    "| betting: ever above | ever below | width at last |"
)


def batch_table(simulations: int) -> Iterator[str]:
    """Markdown, one line a population."""
    yield f"| population | {HEAD}"
    yield f"| --- |{' ---: |' * 6}"
    for population in populations():
        yield f"| {population.name} | {' | '.join(map(str, of_batches(population, simulations)))} |"


def difference_table(simulations: int) -> Iterator[str]:
    """Markdown, one line a pair."""
    yield f"| difference of | {HEAD}"
    yield f"| --- |{' ---: |' * 6}"
    for pair in PAIRS:
        yield f"| {pair.name} | {' | '.join(map(str, of_differences(pair, simulations)))} |"


TABLES = {"answers": of_answers, "batches": batch_table, "differences": difference_table}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="put the tables into docs/numbers.md")
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
