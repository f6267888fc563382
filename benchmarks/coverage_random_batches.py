"""How often the upper end errs that victims in random batches make short, on populations of known accuracy.

    python benchmarks/coverage_random_batches.py            prints the table (about 2 minutes on one core)
    python benchmarks/coverage_random_batches.py --write    and puts it into docs/numbers.md

One simulation is an evaluation as a report makes it: 64 victims of 5 or 10 batches of 128 in 10 draws, and
where these leave at most the margin, every example as a victim in a random batch of its own, in one draw.
The upper end is then the lower one of the two, each at half the tail. Of every population a weaker attack on
whole batches is seen, too, which leaves half; in it a correlation of batches would show.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from coverage import SIMULATIONS, TAIL, write
from coverage_populations import K
from numpy.typing import NDArray
from scipy.special import ndtri

from robustbench_coded.evaluation.planning.random_batches import random_batches_wanted
from robustbench_coded.statistics.clustered import clustered_interval
from robustbench_coded.statistics.correlation import pooled
from robustbench_coded.statistics.random_batches import random_batch_high

DRAWS, BATCHES, VICTIMS, MARGIN, WEAKER = 10, (5, 10), 64, 0.03, 0.5
DESIGNS = 8  # different random batches, made once: examples are exchangeable


@dataclass(frozen=True)
class Sat:
    """Who sits where.

    Attributes:
        victims: [victims], their examples.
        members: [batches, examples], 1 where an example is in a batch.
        of: [victims], the batch of each.
    """

    victims: NDArray[np.int64]
    members: NDArray[np.float32]
    of: NDArray[np.int64]


# Answers to victims in so many draws, under an attack that leaves ``mean``: right [victims, draws].
Answers = Callable[[Sat, int, float], NDArray[np.bool_]]


@dataclass(frozen=True)
class Population:
    """Where answers to victims come from, and their mean over everything."""

    name: str
    prepare: Callable[[np.random.Generator, int], Answers]
    truth: float


def coin_flips(mean: float) -> Population:
    def prepare(rng: np.random.Generator, examples: int) -> Answers:
        return lambda sat, draws, mean: rng.random((len(sat.victims), draws)) < mean

    return Population(f"coin flips, mean {mean:g}", prepare, mean)


def always_right(share: float) -> Population:
    def prepare(rng: np.random.Generator, examples: int) -> Answers:
        trait = rng.random(examples)
        return lambda sat, draws, mean: np.repeat((trait[sat.victims] < mean)[:, None], draws, axis=1)

    return Population(f"{share:.1%} of the examples always right", prepare, share)


def whole_batches(mean: float) -> Population:
    """A batch saves every victim that sits in it, or none; which does is no property of an example."""

    def prepare(rng: np.random.Generator, examples: int) -> Answers:
        def answers(sat: Sat, draws: int, mean: float) -> NDArray[np.bool_]:
            return np.repeat((rng.random(len(sat.members)) < mean)[sat.of][:, None], draws, axis=1)

        return answers

    return Population(f"some batches save their victims, mean {mean:g}", prepare, mean)


def by_members(mean: float) -> Population:
    """A batch saves its victims where the sum of its members' traits is high: the examples decide."""

    def prepare(rng: np.random.Generator, examples: int) -> Answers:
        trait = rng.standard_normal(examples)

        def answers(sat: Sat, draws: int, mean: float) -> NDArray[np.bool_]:
            fate = sat.members @ trait / np.sqrt(sat.members.sum(axis=1)) > ndtri(1 - mean)
            return np.repeat(fate[sat.of][:, None], draws, axis=1)

        return answers

    return Population(f"the sum over co-batched inputs decides, mean {mean:g}", prepare, mean)


def noisy(mean: float, batch_noise: float) -> Population:
    """Margins of victims, moved by the mean trait of their batch and by noise of each draw."""
    deviation = np.sqrt(1 + batch_noise**2 + 0.3**2)

    def prepare(rng: np.random.Generator, examples: int) -> Answers:
        margin, trait = rng.standard_normal(examples), rng.standard_normal(examples)

        def answers(sat: Sat, draws: int, mean: float) -> NDArray[np.bool_]:
            sums = sat.members @ trait / np.sqrt(sat.members.sum(axis=1))
            own = 0.3 * rng.standard_normal((len(sat.victims), draws))
            score = (margin[sat.victims] + batch_noise * sums[sat.of])[:, None] + own
            return score > deviation * ndtri(1 - mean)

        return answers

    return Population(
        f"margins moved by co-batched inputs ({batch_noise:g}) and draws, mean {mean:g}", prepare, mean
    )


def one_decides(kind: float) -> Population:
    """A batch saves its victim where it holds one example of a rare kind."""

    def prepare(rng: np.random.Generator, examples: int) -> Answers:
        rare = rng.random(examples) < kind

        def answers(sat: Sat, draws: int, mean: float) -> NDArray[np.bool_]:
            fate = np.repeat((sat.members @ rare > 0)[sat.of][:, None], draws, axis=1)
            return fate | (rng.random(fate.shape) < mean) if mean == WEAKER else fate

        return answers

    truth = 1 - (1 - kind) ** K
    return Population(
        f"one of a rare kind ({kind:.2%}) in the batch saves the victim, mean {truth:.3f}", prepare, truth
    )


def populations() -> list[Population]:
    return [
        *(coin_flips(mean) for mean in (0.002, 0.01, 0.02)),
        *(always_right(mean) for mean in (0.002, 0.01, 0.02)),
        *(whole_batches(mean) for mean in (0.01, 0.1)),
        *(noisy(0.02, noise) for noise in (0.15, 0.5)),
        *(by_members(mean) for mean in (0.02, 0.1)),
        one_decides(0.001),
    ]


@dataclass(frozen=True)
class Errors:
    """Of the upper end: how often batches were used, how often it lay below the truth, and its mean."""

    used: float
    below: float
    mean: float
    below_without: float
    mean_without: float


def designs(rng: np.random.Generator, examples: int) -> list[NDArray]:
    """[victims, examples] each: who sits with victim i in a random batch."""
    made = []
    for _ in range(DESIGNS):
        members = np.zeros((random_batches_wanted(examples), examples), dtype=np.float32)
        for victim, row in enumerate(members):
            others = rng.choice(examples - 1, K - 1, replace=False)
            row[others + (others >= victim)] = 1
        made.append(members)
    return made


def measure(population: Population, batches: int, simulations: int, seed: int = 0) -> Errors:
    """Simulates evaluations of one population with so many batches."""
    rng = np.random.default_rng(seed)
    examples = batches * K
    batch = np.repeat(np.arange(batches), K)
    together = (batch[None, :] == np.arange(batches)[:, None]).astype(np.float32)
    made = designs(rng, examples)
    used, ends, alone = 0, [], []
    for number in range(simulations):
        answers = population.prepare(rng, examples)
        few = np.sort(rng.choice(examples, VICTIMS, replace=False))
        first = answers(Sat(few, together, batch[few]), DRAWS, population.truth)
        weaker = answers(Sat(np.arange(examples), together, batch), DRAWS, WEAKER)
        seen = pooled([(weaker, batch)])
        alone.append(clustered_interval(first, batch[few], TAIL, seen)[1])
        if first.mean() > MARGIN or alone[-1] <= MARGIN:
            ends.append(alone[-1])
            continue
        used += 1
        members = made[number % DESIGNS]
        every = np.arange(len(members))
        right = answers(Sat(every, members, every), 1, population.truth)[:, 0]
        again = random_batch_high(right, TAIL / 2, seen, K)
        ends.append(max(min(again, clustered_interval(first, batch[few], TAIL / 2, seen)[1]), first.mean()))
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
        "| population | batches | random batches used in | upper end below the truth | mean upper end | "
        "64 victims alone: below the truth | mean |"
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
        write("random-batches", "\n".join(lines))


if __name__ == "__main__":
    main()
