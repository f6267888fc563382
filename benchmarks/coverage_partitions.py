"""How often the upper end errs that random partitions make short, on populations whose accuracy is known.

    python benchmarks/coverage_partitions.py            prints the table (about 5 minutes on one core)
    python benchmarks/coverage_partitions.py --write    and puts it into docs/numbers.md

One simulation is an evaluation as a report makes it: batches of 128 in 10 draws, and where these leave at
most the margin, random partitions of the same examples in one draw each. The upper end is then the lower one
of the two, each at half the tail.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from coverage import SIMULATIONS, TAIL, write
from coverage_populations import K
from numpy.typing import NDArray
from robustbench_coded.evaluation.planning.partitions import partitions_wanted
from scipy.special import ndtri

from robustbench_coded.statistics.clustered import clustered_interval
from robustbench_coded.statistics.partitions import partition_interval

DRAWS, BATCHES, MARGIN = 10, (5, 10), 0.03
KINDS = 64  # different random partitions, made once: examples are exchangeable

Right = NDArray[np.bool_]
Batches = NDArray[np.int64]  # [examples, partitions], the batch of each example
Answers = Callable[[np.random.Generator, Batches, int], Right]


@dataclass(frozen=True)
class Population:
    """Where answers [examples, partitions, draws] come from, and their mean over everything.

    Attributes:
        prepare: draws examples; what it gives answers them in the batches that it is given.
    """

    name: str
    prepare: Callable[[np.random.Generator, int], Answers]
    truth: float


def batches_of(batch: Batches) -> int:
    return int(batch.max()) + 1


def of_batches(values: NDArray, batch: Batches) -> NDArray:
    """[partitions, batches, ...] -> [examples, partitions, ...], each example bearing its batch's value."""
    return values[np.arange(batch.shape[1])[None, :], batch]


def coin_flips(mean: float) -> Population:
    def prepare(rng: np.random.Generator, examples: int) -> Answers:
        return lambda rng, batch, draws: rng.random((*batch.shape, draws), dtype=np.float32) < mean

    return Population(f"coin flips, mean {mean:g}", prepare, mean)


def always_right(share: float) -> Population:
    """A share of the examples is always right, whatever the batch."""

    def prepare(rng: np.random.Generator, examples: int) -> Answers:
        right = rng.random(examples) < share
        return lambda rng, batch, draws: np.broadcast_to(right[:, None, None], (*batch.shape, draws))

    return Population(f"{share:.1%} of the examples always right", prepare, share)


def beta_batches(mean: float, rho: float) -> Population:
    """Batches have accuracies of their own; the same examples in another partition have others."""

    def prepare(rng: np.random.Generator, examples: int) -> Answers:
        def answers(rng: np.random.Generator, batch: Batches, draws: int) -> Right:
            shape = (batch.shape[1], batches_of(batch))
            if rho == 1:
                accuracy = (rng.random(shape) < mean).astype(np.float32)
            else:
                spread = 1 / rho - 1
                accuracy = rng.beta(mean * spread, (1 - mean) * spread, shape).astype(np.float32)
            return (
                rng.random((*batch.shape, draws), dtype=np.float32) < of_batches(accuracy, batch)[..., None]
            )

        return answers

    kind = "whole batches" if rho == 1 else f"beta batches, rho {rho:g}"
    return Population(f"{kind}, mean {mean:g}", prepare, mean)


def whole_in_a_draw(mean: float) -> Population:
    """A batch survives as a whole in a share of its draws."""

    def prepare(rng: np.random.Generator, examples: int) -> Answers:
        def answers(rng: np.random.Generator, batch: Batches, draws: int) -> Right:
            fate = rng.random((batch.shape[1], batches_of(batch), draws)) < mean
            return of_batches(fate, batch)

        return answers

    return Population(f"whole batches by draw, mean {mean:g}", prepare, mean)


def by_members(mean: float) -> Population:
    """A batch survives as a whole where the sum of its members' traits is high: its examples decide."""

    def prepare(rng: np.random.Generator, examples: int) -> Answers:
        trait = rng.standard_normal(examples)

        def answers(rng: np.random.Generator, batch: Batches, draws: int) -> Right:
            code = batch + batches_of(batch) * np.arange(batch.shape[1])
            sums = np.bincount(code.ravel(), np.broadcast_to(trait[:, None], batch.shape).ravel())
            fate = (sums / np.sqrt(K) > ndtri(1 - mean))[code]
            return np.broadcast_to(fate[..., None], (*batch.shape, draws))

        return answers

    return Population(f"whole batches by the sum of their members' traits, mean {mean:g}", prepare, mean)


def noisy(mean: float, batch_noise: float = 0.15, noise: float = 0.3) -> Population:
    """Margins of examples, moved by noise of their own and by one of their batch, in each draw."""
    deviation = np.sqrt(1 + batch_noise**2 + noise**2)
    edge = float(deviation * ndtri(1 - mean))

    def prepare(rng: np.random.Generator, examples: int) -> Answers:
        margin = rng.standard_normal(examples, dtype=np.float32)

        def answers(rng: np.random.Generator, batch: Batches, draws: int) -> Right:
            shared = rng.standard_normal((batch.shape[1], batches_of(batch), draws), dtype=np.float32)
            own = rng.standard_normal((*batch.shape, draws), dtype=np.float32)
            score = margin[:, None, None] + batch_noise * of_batches(shared, batch) + noise * own
            return score > edge

        return answers

    return Population(f"margins with noise of each draw and batch, mean {mean:g}", prepare, mean)


def one_decides(kind: float) -> Population:
    """A batch survives as a whole where it holds one example of a rare kind."""

    def prepare(rng: np.random.Generator, examples: int) -> Answers:
        rare = rng.random(examples) < kind

        def answers(rng: np.random.Generator, batch: Batches, draws: int) -> Right:
            code = batch + batches_of(batch) * np.arange(batch.shape[1])
            fate = (np.bincount(code.ravel(), np.broadcast_to(rare[:, None], batch.shape).ravel()) > 0)[code]
            return np.broadcast_to(fate[..., None], (*batch.shape, draws))

        return answers

    truth = 1 - (1 - kind) ** K
    name = f"one of a rare kind ({kind:.2%} of the examples) saves its batch, mean {truth:.3f}"
    return Population(name, prepare, truth)


def populations() -> list[Population]:
    return [
        *(coin_flips(mean) for mean in (0.002, 0.02)),
        *(always_right(mean) for mean in (0.002, 0.02)),
        *(beta_batches(mean, rho) for mean, rho in ((0.02, 0.1), (0.02, 0.3), (0.05, 0.5))),
        *(beta_batches(mean, 1) for mean in (0.01, 0.1, 0.2)),
        *(whole_in_a_draw(mean) for mean in (0.01, 0.1)),
        *(by_members(mean) for mean in (0.1, 0.2)),
        noisy(0.02),
        one_decides(0.001),
    ]


@dataclass(frozen=True)
class Errors:
    """Of the upper end: how often partitions were used, how often it lay below the truth, and its mean."""

    used: float
    below: float
    mean: float
    below_without: float
    mean_without: float


def measure(population: Population, batches: int, simulations: int, seed: int = 0) -> Errors:
    """Simulates evaluations of one population with so many batches."""
    rng = np.random.default_rng(seed)
    examples = batches * K
    base = np.repeat(np.arange(batches), K)[:, None]
    wanted = partitions_wanted(examples, batches, K)
    orders = rng.permuted(np.tile(np.repeat(np.arange(batches), K), (KINDS + wanted, 1)), axis=1).T
    used, ends, alone = 0, [], []
    for number in range(simulations):
        answers = population.prepare(rng, examples)
        first = answers(rng, base, DRAWS)[:, 0]
        alone.append(clustered_interval(first, base[:, 0], TAIL)[1])
        if first.mean() > MARGIN or alone[-1] <= MARGIN:
            ends.append(alone[-1])
            continue
        used += 1
        at = number % KINDS
        batch = orders[:, at : at + wanted]
        again = partition_interval(answers(rng, batch, 1)[..., 0], batch, TAIL / 2)[1]
        ends.append(max(min(again, clustered_interval(first, base[:, 0], TAIL / 2)[1]), first.mean()))
    high, before = np.asarray(ends), np.asarray(alone)
    truth = population.truth
    return Errors(
        used / simulations,
        float((high < truth).mean()),
        float(high.mean()),
        float((before < truth).mean()),
        float(before.mean()),
    )


def table(simulations: int) -> Iterator[str]:
    """Markdown, one line per population and number of batches."""
    yield (
        "| population | batches | partitions used in | upper end below the truth | mean upper end | "
        "without: below the truth | mean |"
    )
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for population in populations():
        for batches in BATCHES:
            found = measure(population, batches, simulations)
            yield (
                f"| {population.name} | {batches} | {found.used:.0%} | {found.below:.1%} | {found.mean:.4f} "
                f"| {found.below_without:.1%} | {found.mean_without:.4f} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=SIMULATIONS)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    lines = []
    for line in table(given.simulations):
        print(line, flush=True)
        lines.append(line)
    if given.write:
        write("partitions", "\n".join(lines))


if __name__ == "__main__":
    main()
