"""How often 95% intervals err at either end: simulated evaluations whose population accuracy is known.

    python benchmarks/errors/coverage.py                   prints the tables (about 10 minutes on one core)
    python benchmarks/errors/coverage.py --write           and puts them into benchmarks/errors/intervals.md

The truth is the population accuracy over examples, batches and draws. An interval errs at its lower end where
it lies above the truth, at its upper end where it lies below. The last rows of the first table are beyond
what is assumed of batches.
"""

import argparse
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from benchmarks.errors.coverage_populations import (
    Evaluation,
    K,
    Pair,
    Population,
    above_base,
    alike,
    correlated,
    nested,
    random_ensemble,
    rci_linear,
    survival,
    two_kinds,
)
from robustbench_coded.judge.correlation import pooled
from robustbench_coded.judge.intervals import accuracy_interval, clustered_interval, over_draws
from robustbench_coded.judge.paired import clustered_difference
from robustbench_coded.judge.variance import NOT_SHARED, drawn, shared_of

SIMULATIONS, SEED, TAIL = 2000, 0, 0.025
BATCHES = (5, 10, 40)
MANY = 79  # batches of 128, the test set of CIFAR-10
LONG, LONG_SEED = 40, 1  # from so many batches on, a quarter of the evaluations are simulated
TABLES = Path(__file__).with_name("intervals.md")

BEYOND = "batch, beyond the assumption"

Method = Callable[[Evaluation, NDArray[np.int64]], tuple[float, float]]


@dataclass(frozen=True)
class Cell:
    """A population and a size of evaluation: ``sizes`` are the examples of each batch."""

    population: Population
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Errors:
    """Shares of intervals that lie above the truth, below it, and their mean width."""

    low: float
    high: float
    width: float

    def __str__(self) -> str:
        return f"{self.low:.1%} | {self.high:.1%} | {1 - self.low - self.high:.1%} | {self.width:.4f}"


def by_batch(evaluation: Evaluation, batch: NDArray[np.int64]) -> tuple[float, float]:
    """The interval of a batch-dependent defence, as a report has it: all rows say how alike batches are."""
    attacked = [(correct, batch) for correct in evaluation.weaker]
    controls = [(correct, batch) for correct in evaluation.clean]
    return clustered_interval(evaluation.judged, batch, TAIL, pooled(attacked, controls))


def by_example(evaluation: Evaluation, batch: NDArray[np.int64]) -> tuple[float, float]:
    """The interval of a defence that answers its inputs one by one; with one draw, it is deterministic."""
    rows, draws = (evaluation.judged, *evaluation.weaker), evaluation.judged.shape[1]
    shared = NOT_SHARED if draws == 1 else shared_of(drawn(correct, batch) for correct in rows)
    found = accuracy_interval(evaluation.judged, batch, batch_dependent=False, shared=shared)
    return found.low, found.high


def row_alone(evaluation: Evaluation, batch: NDArray[np.int64]) -> tuple[float, float]:
    """The same, were nothing known of draws but what the row itself shows."""
    found = accuracy_interval(evaluation.judged, batch, batch_dependent=False)
    return found.low, found.high


def ignoring_batches(evaluation: Evaluation, batch: NDArray[np.int64]) -> tuple[float, float]:
    """What it would be, were the examples of a batch independent."""
    return row_alone(evaluation, np.arange(len(batch)))


def measure(cell: Cell, method: Method, simulations: int = SIMULATIONS, seed: int = SEED) -> Errors:
    """Simulates evaluations of one cell and counts how often the interval misses the truth at either end."""
    rng = np.random.default_rng(seed)
    batch = np.repeat(np.arange(len(cell.sizes)), cell.sizes)
    truth = cell.population.truth
    ends = [method(cell.population.simulate(rng, batch), batch) for _ in range(simulations)]
    low, high = np.transpose(ends)
    return Errors(float((low > truth).mean()), float((high < truth).mean()), float((high - low).mean()))


def measure_pair(pair: Pair, batches: int, simulations: int = SIMULATIONS, seed: int = SEED) -> Errors:
    """The same for paired differences."""
    rng, batch = np.random.default_rng(seed), np.repeat(np.arange(batches), K)
    ends = []
    for _ in range(simulations):
        left, right = pair.simulate(rng, batch)
        rows = [left] if pair.base else [left, right]
        shared = pooled([(correct, batch) for correct in rows])
        ends.append(
            clustered_difference(left, right, batch, TAIL, right_clustered=not pair.base, correlation=shared)
        )
    low, high = np.transpose(ends)
    return Errors(
        float((low > pair.truth).mean()), float((high < pair.truth).mean()), float((high - low).mean())
    )


def populations() -> list[Population]:
    """Those that both ends are promised for, as rows of batches."""
    return [
        *(correlated(mean, rho) for rho in (0, 0.1, 0.3, 0.5) for mean in (0.5, 0.9, 0.05, 0.02)),
        *(correlated(mean, 1) for mean in (0.1, 0.2)),
        *(survival(share, rest) for share in (0.1, 0.2) for rest in (0.0, 0.05)),
        two_kinds(0.15, 0.9, 0.02),
        *(rci_linear(n, margin=1.2) for n in (190, 128)),
    ]


def cells() -> Iterator[tuple[Cell, Method, str]]:
    """Every cell of the first table, the interval that serves it, and its unit."""
    for population in populations():
        for batches in (*BATCHES, MANY):
            yield Cell(population, (K,) * batches), by_batch, "batch"
    for population in (correlated(0.5, 0.3), correlated(0.9, 0.1), correlated(0.05, 0.3)):
        for batches in (5, 10):
            yield Cell(population, (K,) * (batches - 1) + (16,)), by_batch, "batch, last of 16"
    for mean in (0.9, 0.05, 0.005):
        for batches in BATCHES:
            yield Cell(correlated(mean, 0, draws=1), (K,) * batches), by_example, "example"
    for batches in BATCHES:
        yield Cell(random_ensemble((0.9, 0.3)), (K,) * batches), by_example, "example, shared draw"
    # A kind of batch that is rare, and an accuracy that says nothing of it.
    for population in (two_kinds(0.15, 0.9, 0.15), two_kinds(0.05, 0.9, 0.15)):
        for batches in BATCHES:
            yield Cell(population, (K,) * batches), by_batch, BEYOND


def pairs() -> list[Pair]:
    """Those that both ends are promised for, as differences of two rows."""
    return [
        above_base(0.5, 0, 0.4),
        above_base(0.2, 0.1, 0.05),
        above_base(0.02, 0.1, 0.0),
        above_base(0.02, 0.5, 0.0),
        above_base(0.05, 0.3, 0.03),
        above_base(0.9, 0.3, 0.4),
        above_base(0.9, 0.3, 0.9),
        above_base(0.1, 1, 0.0),
        above_base(0.2, 1, 0.02),
        alike(0.5, 0.4),
        alike(0.5, 0.5),
        nested(0.5, 0.3, 0.02),
        nested(0.9, 0.1, 0.5),
    ]


HEAD = "lower end errs | upper end errs | covered | mean width"


def effort(batches: int, simulations: int) -> tuple[int, int]:
    """How many evaluations of so many disjoint batches are simulated, and their seed."""
    return (simulations // 4, LONG_SEED) if batches >= LONG else (simulations, SEED)


def table(simulations: int) -> Iterator[str]:
    """Markdown, one line per cell."""
    yield f"| population | unit | batches | {HEAD} |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
    for cell, method, unit in cells():
        effort_of_cell = (simulations, SEED) if method is by_example else effort(len(cell.sizes), simulations)
        found = measure(cell, method, *effort_of_cell)
        yield f"| {cell.population.name} | {unit} | {len(cell.sizes)} | {found} |"


def difference_table(simulations: int) -> Iterator[str]:
    """Markdown, one line per pair and number of batches."""
    yield f"| difference of | batches | {HEAD} |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for pair in pairs():
        for batches in BATCHES:
            found = measure_pair(pair, batches, *effort(batches, simulations))
            yield f"| {pair.name} | {batches} | {found} |"


def draws_table(simulations: int) -> Iterator[str]:
    """Markdown, one line per evaluation of fixed batches: the truth is the accuracy over draws alone.

    Answers are right with a probability whose logit is one of the image, plus one of the draw of its batch.
    """
    yield f"| logits: mean, of images, of draws | batches | draws | {HEAD} |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    points, weights = np.polynomial.hermite_e.hermegauss(60)
    for mean, of_images, of_draws in itertools.product((0, -2, -5, 3), (0, 3), (0.2, 1.5)):
        for batches, draws in itertools.product((2, 5), (4, 10, 20)):
            rng, batch, ends = np.random.default_rng(SEED), np.repeat(np.arange(batches), K), []
            for _ in range(simulations // 4):
                rows = []
                for middle in (mean, 0, 2):  # the row, and two others of its subject
                    images = middle + of_images * rng.standard_normal((len(batch), 1))
                    moved = of_draws * rng.standard_normal((batches, draws))
                    rows.append((images, rng.random((len(batch), draws)) < expit(images + moved[batch])))
                images, correct = rows[0]
                truth = float((expit(images + of_draws * points) @ weights).mean() / weights.sum())
                found = over_draws(correct, batch, shared_of(drawn(row, batch) for _, row in rows))
                ends.append((found[0] > truth, found[1] < truth, found[1] - found[0]))
            errors = Errors(*map(float, np.mean(ends, axis=0)))
            yield f"| {mean}, {of_images}, {of_draws} | {batches} | {draws} | {errors} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--write", action="store_true", help="put the tables into benchmarks/errors/intervals.md"
    )
    parser.add_argument("--simulations", type=int, default=SIMULATIONS, help="evaluations simulated per cell")
    parser.add_argument("--only", help="coverage, differences or over-draws: this table alone")
    options = parser.parse_args()
    made_by = {"coverage": table, "differences": difference_table, "over-draws": draws_table}
    for name, made in made_by.items():
        if options.only not in (None, name):
            continue
        lines = []
        for line in made(options.simulations):
            print(line, flush=True)
            lines.append(line)
        if options.write:
            write(name, "\n".join(lines))


def write(name: str, lines: str, page: Path = TABLES) -> None:
    """Puts a table between its marks on a page of the documentation."""
    page.write_text(placed(page.read_text(encoding="utf-8"), name, lines), encoding="utf-8")


def placed(text: str, name: str, lines: str) -> str:
    """The text of a page with a table between its marks."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    head, _, rest = text.partition(begin)
    return f"{head}{begin}\n\n{lines}\n\n{end}{rest.partition(end)[2]}"


if __name__ == "__main__":
    main()
