"""How often each end errs that random batches show, on these images and on others.

    python benchmarks/errors/coverage_random_batches.py  prints the tables (about 7 minutes on one core)
    python benchmarks/errors/coverage_random_batches.py --write  and puts them into
        benchmarks/errors/intervals.md

One simulation is an evaluation of 2, 5 or 10 disjoint batches of 128 images, whose perturbed inputs are
scored in up to 600 random batches of the same images, in one draw each. What they leave on these images, over
random batches and draws, is known exactly. An end errs where the capital that is bet against the truth has
reached 1 / tail. The first evaluations of each cell also ask the package for its ends, which must err in the
same ones.
"""

import argparse
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from benchmarks.errors.coverage import SIMULATIONS, TAIL, write
from benchmarks.errors.coverage_populations import K
from benchmarks.errors.coverage_random_populations import (
    BASE,
    Bools,
    Floats,
    Members,
    Population,
    populations,
    victims,
)
from robustbench_coded.judge.anytime import CAPITAL, SHARES, RandomBatches
from robustbench_coded.judge.intervals import accuracy_interval, clustered_interval
from robustbench_coded.judge.paired import independent_difference
from robustbench_coded.judge.variance import NOT_SHARED

DISJOINT, LOOKS, SEED = (2, 5, 10), (150, 200, 600), 0
FEW_VICTIMS = (16, 32, 64)
ASKED = 100  # evaluations of each cell in which the package is asked, after LOOKS[1] batches
EVENTS = 2 * len(LOOKS) + 2
LOWER, UPPER = slice(0, len(LOOKS)), slice(len(LOOKS) + 1, 2 * len(LOOKS) + 1)
EVER = [len(LOOKS), EVENTS - 1]
AT = f"after {', '.join(map(str, LOOKS))}"


def capital(values: Floats, truth: Floats | float, most: float, tail: float = TAIL) -> Bools:
    """Whether what is bet against "the mean is at least the truth" has grown to 1 / tail, after each value.

    Args:
        values: [..., t], at most ``most``. truth: [...].
    """
    room = np.asarray(most - truth)[..., None]  # none: the truth is as high as any end, which cannot err
    apart = np.asarray(truth)[..., None] - values
    gained = np.divide(apart, room, out=np.zeros(values.shape), where=room > 0)
    grown = np.zeros(values.shape)
    with np.errstate(divide="ignore"):
        for share, part in zip(SHARES, CAPITAL, strict=True):
            grown += part * np.exp(np.minimum(np.log1p(share * gained).cumsum(axis=-1), 500))
    return grown >= 1 / tail


@dataclass
class Errors:
    """Of one population and number of images: of each evaluation, which ends erred.

    Attributes:
        accuracy, gain: on these images, [EVENTS]: lower ends at each of LOOKS, and ever by the bets over
            batches alone; upper ends likewise.
        others: the same of accuracies on other images.
        disjoint: ends from disjoint batches. ends: mean ends of the package, of accuracy and gain.
    """

    accuracy: list[Bools] = field(default_factory=list)
    gain: list[Bools] = field(default_factory=list)
    others: list[Bools] = field(default_factory=list)
    disjoint: list[tuple[float, float]] = field(default_factory=list)
    ends: list[tuple[float, ...]] = field(default_factory=list)


@dataclass(frozen=True)
class Scored:
    """Answers in random batches, less those of the base model where the gain is asked for."""

    members: Members
    right: Bools  # [batches, K]
    base: Bools  # [images]
    least: float  # 0 for an accuracy, -1 for a gain

    def errs(self, truth: float, tail: float = TAIL) -> Bools:
        """[EVENTS]; an end at a look errs where the bets over batches and those over images both do."""
        by_batch = self.right.mean(axis=1, dtype=np.float64)
        if self.least:
            by_batch -= self.base[self.members].mean(axis=1)
        events = []
        for sign, most in ((-1, -self.least), (1, 1.0)):
            path = capital(sign * by_batch, sign * truth, most, tail)
            for look in LOOKS:
                by_image = self.by_image(look)
                agreed = path[look - 1] and capital(sign * by_image, sign * truth, most, tail)[-1]
                events.append(bool(agreed))
            events.append(bool(path.any()))
        return np.array(events)

    def by_image(self, look: int) -> Floats:
        """The mean of each image over the first batches."""
        members, images = self.members[:look], len(self.base)
        seen = np.bincount(members.ravel(), minlength=images)
        right = np.bincount(members[self.right[:look]], minlength=images)
        means = right[seen > 0] / seen[seen > 0]
        return means - self.base[seen > 0] if self.least else means


def measure(simulations: int, disjoint: int, of: Sequence[Population]) -> list[Errors]:
    """Simulates evaluations of every population on so many disjoint batches of images."""
    rng = np.random.default_rng(SEED)
    images, batch = disjoint * K, np.repeat(np.arange(disjoint), K)
    found = [Errors() for _ in of]
    for number in range(simulations):
        members = rng.random((LOOKS[-1], images), dtype=np.float32).argpartition(K, axis=1)[:, :K]
        base = rng.random(images) < BASE
        for population, errors in zip(of, found, strict=True):
            drawn = population.draw(rng, base)
            right = np.broadcast_to(drawn.random(members), members.shape)
            accuracy, gain = (Scored(members, right, base, least) for least in (0.0, -1.0))
            errors.accuracy.append(accuracy.errs(drawn.truth))
            # A gain also lies between the accuracy's own ends, at half of the error, less the base model's.
            own, paired = accuracy.errs(drawn.truth, TAIL / 2), gain.errs(drawn.truth - float(base.mean()))
            errors.gain.append(own | paired)
            if population.others is not None:
                errors.others.append(accuracy.errs(population.others(images)))
                errors.disjoint.append(clustered_interval(drawn.disjoint(), batch, TAIL))
            if number < ASKED:
                errors.ends.append(asked(accuracy, drawn.truth, [*errors.accuracy[-1:], paired]))
    return found


def asked(scored: Scored, truth: float, expected: Sequence[Bools]) -> tuple[float, ...]:
    """The package's ends of accuracy and gain.

    Args:
        expected: which ends of each err.

    Raises:
        AssertionError: they err where the capital says that they do not, or the other way round.
    """
    look = LOOKS[1]
    number = np.repeat(np.arange(look), K)
    row = RandomBatches(scored.members[:look].ravel(), number, scored.right[:look].ravel())
    ends = (*row.interval(TAIL), *row.above(lambda images: scored.base[images], TAIL))
    above = truth - float(scored.base.mean())
    events = [end for of in expected for end in of[[1, len(LOOKS) + 2]]]
    assert [ends[0] > truth, ends[1] < truth, ends[2] > above, ends[3] < above] == events
    return ends


def shares(events: list[Bools], places: slice) -> str:
    """``0.1, 0.0, 0.2%``"""
    return ", ".join(f"{100 * share:.1f}" for share in np.mean(events, axis=0)[places]) + "%"


def these_table(found: list[tuple[Population, int, Errors]]) -> Iterator[str]:
    """Accuracies and gains on these images."""
    yield (
        f"| population | quantity | disjoint batches | lower end errs {AT} | lower end ever errs "
        f"| upper end errs {AT} | upper end ever errs | mean ends after {LOOKS[1]} |"
    )
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |"
    for population, disjoint, errors in found:
        ends = np.mean(errors.ends, axis=0)
        for name, events, low in (("accuracy", errors.accuracy, 0), ("gain", errors.gain, 2)):
            ever = np.mean(events, axis=0)[EVER]
            yield (
                f"| {population.name} | {name} | {disjoint} | {shares(events, LOWER)} | {ever[0]:.1%} "
                f"| {shares(events, UPPER)} | {ever[1]:.1%} | {ends[low]:.3f} to {ends[low + 1]:.3f} |"
            )


def others_table(found: list[tuple[Population, int, Errors]]) -> Iterator[str]:
    """Accuracies on other images."""
    yield (
        "| population | beyond the assumption of | disjoint batches | disjoint: lower end errs "
        f"| disjoint: upper end errs | mean ends | random: lower end errs {AT} "
        f"| random: upper end errs {AT} |"
    )
    yield "| --- | --- | ---: | ---: | ---: | --- | ---: | ---: |"
    for population, disjoint, errors in found:
        if population.others is None:
            continue
        truth, ends = population.others(disjoint * K), np.array(errors.disjoint)
        yield (
            f"| {population.name} | {population.beyond} | {disjoint} "
            f"| {(ends[:, 0] > truth).mean():.1%} | {(ends[:, 1] < truth).mean():.1%} "
            f"| {ends[:, 0].mean():.3f} to {ends[:, 1].mean():.3f} "
            f"| {shares(errors.others, LOWER)} | {shares(errors.others, UPPER)} |"
        )


def ensemble_table(simulations: int) -> Iterator[str]:
    """Two attacks that leave the same: the lower of their upper ends, each at half of the error."""
    yield f"| both attacks | upper end errs {AT} | upper end ever errs |"
    yield "| --- | ---: | ---: |"
    for share in (0.01, 0.03, 0.05, 0.1):
        rng = np.random.default_rng(SEED)
        survived = (rng.random((simulations, 2, LOOKS[-1])) < share).astype(np.float64)
        below = np.any(capital(survived, share, 1.0, TAIL / 2), axis=1)
        at, ever = shares(list(below[:, np.array(LOOKS) - 1]), slice(None)), below.any(axis=1).mean()
        yield f"| {share:.0%} of batches survive | {at} | {ever:.1%} |"


def victims_table(simulations: int) -> Iterator[str]:
    """Each image at most once as the only victim of a random batch: accuracies and gains on these images."""
    yield (
        "| population | images | victims | accuracy: lower end errs | lower end ever errs | upper end errs "
        "| upper end ever errs | gain: lower end errs | lower end ever errs | upper end errs "
        "| upper end ever errs |"
    )
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for population in victims():
        for images in (batches * K for batches in DISJOINT):
            rng = np.random.default_rng(SEED)
            number, flags = min(images, LOOKS[-1]), []
            for runs in [simulations // 10] * 10:
                right, truth = population.draw(rng, runs, images, number)
                base = rng.random((runs, images)) < BASE
                answers, gain = right.astype(np.float64), truth - base.mean(axis=1)
                gained = answers - base[:, :number]
                paths = [
                    capital(-answers, -truth, 0.0),
                    capital(answers, truth, 1.0),
                    capital(-gained, -gain, 1.0),
                    capital(gained, gain, 1.0),
                ]
                flags.append([[path[:, -1], path.any(axis=1)] for path in paths])
            share = np.concatenate(flags, axis=2).mean(axis=2)
            told = " | ".join(f"{last:.1%} | {ever:.1%}" for last, ever in share)
            yield f"| {population.name} | {images} | {number} | {told} |"


@cache
def ends_of(both: int, alone: int, base_alone: int, neither: int) -> tuple[float, float, float, float]:
    """Ends of accuracy and gain of victims, by how many of them the defence and the base model have right."""
    counts = both, alone, base_alone, neither
    right, base = (
        np.repeat(kind, counts)[:, None] for kind in ([True, True, False, False], [True, False] * 2)
    )
    batch = np.arange(len(right))
    own = accuracy_interval(right, batch, batch_dependent=False, tail=TAIL)
    gain = independent_difference(right, base, batch, TAIL, (NOT_SHARED, NOT_SHARED))
    return own.low, own.high, *gain


def own_batches_table(simulations: int) -> Iterator[str]:
    """Few victims, each in a batch of its own, whose batches share images: as their attacks are scored. Five
    times as many evaluations as elsewhere.
    """
    yield (
        "| population | images | victims | accuracy: lower end errs | upper end errs | gain: lower end errs "
        "| upper end errs | mean width |"
    )
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for population in victims():
        for images, number in itertools.product((batches * K for batches in DISJOINT), FEW_VICTIMS):
            rng = np.random.default_rng(SEED)
            right, truth = population.draw(rng, 5 * simulations, images, number)
            base = rng.random((5 * simulations, images)) < BASE
            gain, beside = truth - base.mean(axis=1), base[:, :number]
            counts = [(one & other).sum(axis=1) for one in (right, ~right) for other in (beside, ~beside)]
            low, high, least, most = np.array([ends_of(*of) for of in zip(*counts, strict=True)]).T
            errors = [np.mean(errs) for errs in (low > truth, high < truth, least > gain, most < gain)]
            shown = " | ".join(f"{error:.1%}" for error in errors)
            yield f"| {population.name} | {images} | {number} | {shown} | {np.mean(high - low):.4f} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=SIMULATIONS, help="evaluations a cell")
    parser.add_argument(
        "--write", action="store_true", help="put the tables into benchmarks/errors/intervals.md"
    )
    given = parser.parse_args()
    made = [(disjoint, measure(given.simulations, disjoint, populations())) for disjoint in DISJOINT]
    found = [
        (population, disjoint, errors[place])
        for place, population in enumerate(populations())
        for disjoint, errors in made
    ]
    tables = {
        "these-images": these_table(found),
        "ensembles": ensemble_table(given.simulations),
        "victims": victims_table(given.simulations),
        "own-batches": own_batches_table(given.simulations),
        "other-images": others_table(found),
    }
    for name, lines in tables.items():
        text = "\n".join(lines)
        print(f"\n{text}", flush=True)
        if given.write:
            write(name, text)


if __name__ == "__main__":
    main()
