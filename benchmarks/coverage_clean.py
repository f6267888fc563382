"""How often each end of a clean accuracy errs that few batches left uncertain and random partitions measured.

    python benchmarks/coverage_clean.py            prints the table (about 4 minutes on one core)
    python benchmarks/coverage_clean.py --write    and puts it into docs/numbers.md

One simulation is an evaluation as a report makes it: batches of 128 in 10 draws, and where an end of their
interval lies far from the accuracy, random partitions of the same examples in one draw each. Both ends then
come from these.
"""

import argparse
from collections.abc import Iterator

import numpy as np
from coverage import SIMULATIONS, TAIL, write
from coverage_partitions import (
    BATCHES,
    DRAWS,
    KINDS,
    Population,
    always_right,
    beta_batches,
    coin_flips,
    noisy,
    whole_in_a_draw,
)
from coverage_populations import K
from robustbench_coded.evaluation.planning.partition_choice import CLEAN_PARTITIONS, UNCERTAIN

from robustbench_coded.statistics.clustered import clustered_interval
from robustbench_coded.statistics.partitions import partition_interval


def populations() -> list[Population]:
    return [
        *(coin_flips(mean) for mean in (0.9, 0.99)),
        *(always_right(share) for share in (0.9, 0.99)),
        *(beta_batches(mean, rho) for mean, rho in ((0.98, 0.01), (0.95, 0.02), (0.95, 0.1), (0.9, 0.3))),
        *(beta_batches(mean, 1) for mean in (0.9, 0.99)),
        *(whole_in_a_draw(mean) for mean in (0.9, 0.99)),
        *(noisy(mean) for mean in (0.9, 0.99)),
    ]


def measure(population: Population, batches: int, simulations: int, seed: int = 0) -> list[float]:
    """How often partitions are used, how often the lower end lies above the truth and the upper below it, the
    mean ends, and the mean ends without partitions."""
    rng = np.random.default_rng(seed)
    examples = batches * K
    base = np.repeat(np.arange(batches), K)[:, None]
    orders = rng.permuted(np.tile(base.T, (KINDS + CLEAN_PARTITIONS, 1)), axis=1).T
    used, ends, alone = 0, [], []
    for number in range(simulations):
        answers = population.prepare(rng, examples)
        first = answers(rng, base, DRAWS)[:, 0]
        low, high = clustered_interval(first, base[:, 0], TAIL)
        alone.append((low, high))
        if max(high - first.mean(), first.mean() - low) > UNCERTAIN:
            used += 1
            batch = orders[:, number % KINDS : number % KINDS + CLEAN_PARTITIONS]
            low, high = partition_interval(answers(rng, batch, 1)[..., 0], batch, TAIL)
            low, high = min(low, first.mean()), max(high, first.mean())
        ends.append((low, high))
    found, before = np.asarray(ends), np.asarray(alone)
    errs = [(found[:, 0] > population.truth).mean(), (found[:, 1] < population.truth).mean()]
    return [used / simulations, *errs, *found.mean(axis=0), *before.mean(axis=0)]


def table(simulations: int) -> Iterator[str]:
    """Markdown, one line per population and number of batches."""
    yield (
        "| population | batches | partitions used in | lower end above the truth | upper end below "
        "| mean ends | without |"
    )
    yield "| --- | ---: | ---: | ---: | ---: | --- | --- |"
    for population in populations():
        for batches in BATCHES:
            used, above, below, low, high, low_before, high_before = measure(population, batches, simulations)
            yield (
                f"| {population.name} | {batches} | {used:.0%} | {above:.1%} | {below:.1%} "
                f"| {low:.3f} to {high:.3f} | {low_before:.3f} to {high_before:.3f} |"
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
        write("clean-partitions", "\n".join(lines))


if __name__ == "__main__":
    main()
