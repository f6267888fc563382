"""How often 95% intervals hold the truth: simulated evaluations whose population accuracy is known.

    python benchmarks/coverage.py                   prints the table (about a minute on one core)
    python benchmarks/coverage.py --write           and puts it into docs/numbers.md

The truth is the population accuracy over examples, batches and draws. Every simulated evaluation has batches
of 128 examples and 10 draws unless its cell says otherwise. The last column shows what happens to the same
evaluations when the examples of a batch are taken for independent ones.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robustbench_coded.coding.nodes import chebyshev_first, chebyshev_second
from robustbench_coded.coding.spline import spline_matrix
from robustbench_coded.statistics.case_results import Row
from robustbench_coded.statistics.intervals import accuracy_interval
from robustbench_coded.statistics.outcomes import Cell as Outcomes
from robustbench_coded.statistics.outcomes import RowKey
from robustbench_coded.statistics.paired import paired_difference

K, DRAWS, SIMULATIONS, SEED = 128, 10, 2000, 0
NUMBERS = Path(__file__).parent.parent / "docs" / "numbers.md"
BEGIN, END = "<!-- coverage: begin -->", "<!-- coverage: end -->"

Simulate = Callable[[np.random.Generator, NDArray[np.int64]], NDArray[np.bool_]]


@dataclass(frozen=True)
class Cell:
    """A population and a size of evaluation.

    Attributes:
        simulate: from the batch of each example [n] to outcomes [n, draws].
        last: examples in the last batch; None for a full one.
    """

    name: str
    simulate: Simulate
    truth: float
    batches: int
    batch_dependent: bool = True
    k: int = K
    last: int | None = None


def coin_flip(accuracy: float) -> Simulate:
    """Every answer is right with the same probability, whatever the example, batch and draw."""
    return lambda rng, batch: rng.random((len(batch), DRAWS), dtype=np.float32) < accuracy


def correlated(mean: float, rho: float) -> Simulate:
    """Batches of beta-distributed accuracy: two outcomes of a batch have correlation ``rho``."""
    spread = 1 / rho - 1

    def simulate(rng: np.random.Generator, batch: NDArray[np.int64]) -> NDArray[np.bool_]:
        accuracy = rng.beta(mean * spread, (1 - mean) * spread, batch[-1] + 1).astype(np.float32)
        return rng.random((len(batch), DRAWS), dtype=np.float32) < accuracy[batch][:, None]

    return simulate


def deterministic(accuracy: float) -> Simulate:
    """Independent examples, one draw."""
    return lambda rng, batch: rng.random((len(batch), 1)) < accuracy


def random_ensemble(accuracies: tuple[float, ...]) -> Simulate:
    """Each batch and draw is answered by one of several networks; an example is as hard for all of them."""

    def simulate(rng: np.random.Generator, batch: NDArray[np.int64]) -> NDArray[np.bool_]:
        chosen = rng.choice(accuracies, (batch[-1] + 1, DRAWS))
        return rng.random((len(batch), 1)) < chosen[batch]

    return simulate


def rci_linear(n: int, margin: float) -> Simulate:
    """A linear classifier of two classes under randomised coded inference with ``n`` coded inputs.

    Scores are y (margin + N(0, 1)). The network is linear, so decoding commutes with it: in a draw with
    permutation P the scores of a batch become P^T D E P times them.
    """

    def simulate(rng: np.random.Generator, batch: NDArray[np.int64]) -> NDArray[np.bool_]:
        batches = batch[-1] + 1
        label = rng.choice(np.float32([-1, 1]), (batches, K))
        score = label * (margin + rng.standard_normal((batches, K), dtype=np.float32))
        slots = rng.random((DRAWS, batches, K), dtype=np.float32).argsort(axis=-1)
        decoded = np.take_along_axis(np.broadcast_to(score, slots.shape), slots, axis=-1) @ code_matrix(n).T
        answered = np.empty_like(decoded)
        np.put_along_axis(answered, slots, decoded, axis=-1)
        return (answered * label > 0).reshape(DRAWS, -1).T

    return simulate


@cache
def code_matrix(n: int) -> NDArray[np.float32]:
    """D E, [K, K]: what coded inference does to the scores of a linear network."""
    alpha, beta = chebyshev_first(K), chebyshev_second(n)
    return (spline_matrix(beta, alpha) @ spline_matrix(alpha, beta)).astype(np.float32)


def estimated_truth(simulate: Simulate, batches: int = 20_000) -> float:
    """Population accuracy from many batches; its standard error is below 0.0003."""
    rng, chunk = np.random.default_rng(1), 500
    batch = np.repeat(np.arange(chunk), K)
    return float(np.mean([simulate(rng, batch).mean() for _ in range(batches // chunk)]))


def guaranteed_cells() -> list[Cell]:
    """Where 92.5 to 98% are promised, at 5, 10 and 40 batches."""
    populations: list[tuple[str, Simulate, float]] = [
        ("coin flip, 95% right", coin_flip(0.95), 0.95),
        ("mean 0.5, correlation 0.3", correlated(0.5, 0.3), 0.5),
        ("mean 0.9, correlation 0.1", correlated(0.9, 0.1), 0.9),
    ]
    for n in (190, 128):
        simulate = rci_linear(n, margin=1.2)
        populations.append((f"linear model under RCI N={n}", simulate, estimated_truth(simulate)))
    by_batch = [Cell(*population, batches) for population in populations for batches in (5, 10, 40)]
    by_example = [Cell(*populations[0], batches, batch_dependent=False) for batches in (5, 10, 40)]
    return by_example + by_batch


def further_cells() -> list[Cell]:
    """Independent examples, few and uneven batches, and populations that few batches cannot show."""
    mean, skewed = correlated(0.5, 0.3), correlated(0.9, 0.1)
    return [
        Cell("deterministic, 90% right", deterministic(0.9), 0.9, 5, batch_dependent=False),
        Cell("deterministic, 0.5% right", deterministic(0.005), 0.005, 5, batch_dependent=False),
        Cell("one of two networks, 90% or 30%", random_ensemble((0.9, 0.3)), 0.6, 5, batch_dependent=False),
        Cell("64 victims, 10% right", coin_flip(0.1), 0.1, 64, batch_dependent=False, k=1),
        Cell("mean 0.5, correlation 0.3, last of 16", mean, 0.5, 5, last=16),
        Cell("mean 0.9, correlation 0.1, last of 16", skewed, 0.9, 5, last=16),
        Cell("coin flip, 95% right", coin_flip(0.95), 0.95, 2),
        Cell("mean 0.5, correlation 0.3", mean, 0.5, 2),
        Cell("mean 0.9, correlation 0.1", skewed, 0.9, 2),
        Cell("mean 0.5, correlation 0.3", mean, 0.5, 1),
        Cell("mean 0.9, correlation 0.1", skewed, 0.9, 1),
        *(Cell("mean 0.9, correlation 0.3", correlated(0.9, 0.3), 0.9, batches) for batches in (5, 10, 40)),
        *(
            Cell("mean 0.99, correlation 0.02", correlated(0.99, 0.02), 0.99, batches)
            for batches in (5, 10, 40)
        ),
        *(
            Cell("mean 0.95, correlation 0.5", correlated(0.95, 0.5), 0.95, batches)
            for batches in (5, 10, 40)
        ),
    ]


@dataclass(frozen=True)
class Coverage:
    """Share of intervals that hold the truth, their mean width, and the share where batches are ignored."""

    covered: float
    width: float
    covered_ignoring_batches: float


def measure(cell: Cell, simulations: int = SIMULATIONS, seed: int = SEED) -> Coverage:
    """Simulates evaluations of one cell and counts how often the interval holds the truth."""
    rng = np.random.default_rng(seed)
    sizes = [cell.k] * (cell.batches - 1) + [cell.last or cell.k]
    batch = np.repeat(np.arange(cell.batches), sizes)
    alone = np.arange(len(batch))
    covered, width, ignoring = 0, 0.0, 0
    for _ in range(simulations):
        correct = cell.simulate(rng, batch)
        interval = accuracy_interval(correct, batch, batch_dependent=cell.batch_dependent)
        covered += interval.low <= cell.truth <= interval.high
        width += interval.high - interval.low
        careless = accuracy_interval(correct, alone, batch_dependent=False)
        ignoring += careless.low <= cell.truth <= careless.high
    return Coverage(covered / simulations, width / simulations, ignoring / simulations)


@dataclass(frozen=True)
class Pair:
    """Two rows over the same batches and draws, and the true difference of their accuracies.

    Attributes:
        simulate: from the batch of each example [n] to the outcomes [n, draws] of both.
        base: whether the second row is a deterministic base model that takes its inputs one by one.
    """

    name: str
    simulate: Callable[[np.random.Generator, NDArray[np.int64]], tuple[NDArray[np.bool_], NDArray[np.bool_]]]
    truth: float
    base: bool = False


def alike(mean: float, other: float) -> Pair:
    """Two attacks: what is hard in a batch is hard for both of them."""

    def simulate(rng: np.random.Generator, batch: NDArray[np.int64]):
        deviation = rng.normal(0, 0.1, batch[-1] + 1)[batch][:, None]
        first, second = (rng.random((len(batch), DRAWS)) < centre + deviation for centre in (mean, other))
        return first, second

    return Pair(f"two attacks, {mean:.0%} and {other:.0%}, batches alike", simulate, mean - other)


def above_base(mean: float, rho: float, base: float) -> Pair:
    """A batch-dependent defence and its base model."""
    defended, undefended = correlated(mean, rho), deterministic(base)
    name = f"{mean:.0%} with correlation {rho:g}, above a base of {base:.0%}"
    return Pair(
        name, lambda rng, batch: (defended(rng, batch), undefended(rng, batch)), mean - base, base=True
    )


def measure_pair(pair: Pair, batches: int, simulations: int, seed: int = SEED) -> tuple[float, float]:
    """Share of paired intervals that hold the true difference, and their mean width."""
    rng, batch = np.random.default_rng(seed), np.repeat(np.arange(batches), K)
    covered, width = 0, 0.0
    for _ in range(simulations):
        first, second = pair.simulate(rng, batch)
        found = paired_difference(_row(first, batch), _row(second, batch, base=pair.base))
        covered += found.low <= pair.truth <= found.high
        width += found.high - found.low
    return covered / simulations, width / simulations


def _row(correct: NDArray[np.bool_], batch: NDArray[np.int64], *, base: bool = False) -> Row:
    key = RowKey("", "", None, None, "batch/unknown", "", "linf", 0.0, "pixel", None)
    examples, draws = correct.shape
    answers = np.where(correct, 0, 1).astype(np.int32)
    outcomes = Outcomes(np.arange(examples), batch, np.zeros(examples, int), np.arange(draws), answers)
    return Row(key, outcomes, None, examples, not base, not base, True, (key,))


def difference_table(simulations: int) -> str:
    """Markdown, one line per pair and number of batches."""
    lines = [
        "| difference of | batches | truth | interval holds it | mean width |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    print("\n".join(lines))
    for pair in (alike(0.5, 0.4), above_base(0.2, 0.1, 0.05), above_base(0.02, 0.01, 0.0)):
        for batches in (5, 10, 40):
            covered, width = measure_pair(pair, batches, simulations)
            lines.append(f"| {pair.name} | {batches} | {pair.truth:.2f} | {covered:.1%} | {width:.4f} |")
            print(lines[-1], flush=True)
    return "\n".join(lines)


def table(cells: list[Cell], simulations: int) -> str:
    """Markdown, one line per cell."""
    lines = [
        "| population | unit | batches | truth | interval holds it | mean width | batches ignored |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    print("\n".join(lines))
    for cell in cells:
        found = measure(cell, simulations)
        unit = "batch" if cell.batch_dependent else "example"
        lines.append(
            f"| {cell.name} | {unit} | {cell.batches} | {cell.truth:.4f} | {found.covered:.1%} "
            f"| {found.width:.4f} | {found.covered_ignoring_batches:.1%} |"
        )
        print(lines[-1], flush=True)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="put the tables into docs/numbers.md")
    parser.add_argument("--simulations", type=int, default=SIMULATIONS, help="evaluations simulated per cell")
    options = parser.parse_args()
    print(f"{options.simulations} simulated evaluations a cell")
    promised = table(guaranteed_cells(), options.simulations)
    beyond = table(further_cells(), options.simulations)
    differences = difference_table(options.simulations)
    if options.write:
        text = NUMBERS.read_text(encoding="utf-8")
        head, _, rest = text.partition(BEGIN)
        tail = rest.partition(END)[2]
        tables = "\n\n".join(
            [promised, "Elsewhere, where nothing is promised:", beyond, "Paired differences:", differences]
        )
        NUMBERS.write_text(f"{head}{BEGIN}\n\n{tables}\n\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
