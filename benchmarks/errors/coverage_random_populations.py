"""Images whose accuracy over random batches of them is known exactly, for `coverage_random_batches.py`."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import binom, hypergeom

from benchmarks.errors.coverage_populations import DRAWS, K

BASE = 0.05  # of the images are right without the defence
# What a population does not keep to: that no kind of batch is rarer than the evaluated ones show, or that an
# image's mean over random batches of the evaluated images estimates its mean over batches of all.
KINDS_OF_BATCHES, BATCHES_OF_ALL = "disjoint", "random"

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Members = NDArray[np.int64]  # [batches, K], the images of each batch
Chances = Callable[[np.random.Generator, int], Floats]  # of so many images to be right


@dataclass(frozen=True)
class Images:
    """The images of one evaluation.

    Attributes:
        truth: their accuracy over random batches and draws.
        random: answers [batches, K] in one draw of each batch, or [batches, 1] where those of a batch are
            the same.
        disjoint: answers [images, DRAWS] in the batches of their order.
    """

    truth: float
    random: Callable[[Members], Bools]
    disjoint: Callable[[], Bools]


@dataclass(frozen=True)
class Population:
    """Where images come from.

    Attributes:
        draw: so many images, by whether the base model is right on each.
        others: the accuracy over all images, by the number of those that are evaluated; None where it is not
            defined.
        beyond: which assumption on other images it does not keep to.
    """

    name: str
    draw: Callable[[np.random.Generator, Bools], Images]
    others: Callable[[int], float] | None
    beyond: str = ""


def batch_kinds(share: float, kept: float, rest: float, *, by_draw: bool = False) -> Population:
    """A ``share`` of batches (and draws) keeps ``kept`` of its inputs, the others ``rest``."""
    of = "batches and draws" if by_draw else "batches"
    whole = kept == 1 and rest == 0
    name = (
        f"{share:.0%} of {of} survive" if whole else f"{share:.0%} of {of} keep {kept:.0%}, others {rest:.0%}"
    )
    truth = share * kept + (1 - share) * rest

    def draw(rng: np.random.Generator, base: Bools) -> Images:
        def answers(fate: Bools, inputs: int) -> Bools:
            if whole:
                return fate[:, None]
            accuracy = np.where(fate, kept, rest)[:, None]
            return rng.random((len(fate), inputs), dtype=np.float32) < accuracy

        def disjoint() -> Bools:
            fates = rng.random((len(base) // K, DRAWS if by_draw else 1)) < share
            accuracy = np.where(np.repeat(fates, K, axis=0), kept, rest)
            return rng.random((len(base), DRAWS), dtype=np.float32) < accuracy

        return Images(truth, lambda members: answers(rng.random(len(members)) < share, K), disjoint)

    # The evaluated batches say nothing of a kind that did not come, unless hardly anything is right in them.
    beyond = KINDS_OF_BATCHES if rest > 0.1 else ""
    return Population(name, draw, lambda images: truth, beyond)


def decided_by_members(
    name: str,
    kind: Callable[[np.random.Generator, int], Bools],
    survives: Callable[[NDArray[np.int64]], Bools],
    truth: Callable[[int, int], float],
    others: Callable[[int], float] | None,
) -> Population:
    """A batch survives as a whole, by how many images of a kind it holds.

    Args:
        kind: which of so many images are of it. survives: by their number in a batch.
        truth: by the number of images, and how many are of that kind.
    """

    def draw(rng: np.random.Generator, base: Bools) -> Images:
        special = kind(rng, len(base))

        def disjoint() -> Bools:
            fates = survives(special.reshape(-1, K).sum(axis=1))
            return np.broadcast_to(np.repeat(fates, K)[:, None], (len(base), DRAWS))

        return Images(
            truth(len(base), int(special.sum())),
            lambda members: survives(special[members].sum(axis=1))[:, None],
            disjoint,
        )

    return Population(name, draw, others, BATCHES_OF_ALL)


@cache
def at_least(needed: int, images: int, special: int) -> float:
    """With which probability a random batch holds at least so many of the special ones among the images."""
    return float(hypergeom.sf(needed - 1, images, special, K))


def saved_by(number: int, name: str) -> Population:
    """So many of the images together save their batch."""
    return decided_by_members(
        f"{name} saves its batch",
        lambda rng, images: np.arange(images) < number,
        lambda held: held >= number,
        lambda images, special: at_least(number, images, special),
        None,
    )


def rare_kind() -> Population:
    """Of a kind of which one image among as many as are evaluated is expected, one saves its batch."""
    return decided_by_members(
        "one image of a kind of which one is expected saves its batch",
        lambda rng, images: rng.random(images) < 1 / images,
        lambda held: held >= 1,
        lambda images, special: at_least(1, images, special),
        lambda images: 1 - (1 - 1 / images) ** K,
    )


def by_sum(share: float) -> Population:
    """Half of the images have a trait; the ``share`` of batches with the most of them survives."""
    needed = int(binom.isf(share, K, 0.5)) + 1
    return decided_by_members(
        f"the sum over the batch decides, {share:.0%} survive",
        lambda rng, images: rng.random(images) < 0.5,
        lambda held: held >= needed,
        lambda images, special: at_least(needed, images, special),
        lambda images: float(binom.sf(needed - 1, K, 0.5)),
    )


def by_image(name: str, mean: float, chances: Chances) -> Population:
    """Images of different difficulty; what else is in the batch does not matter."""

    def draw(rng: np.random.Generator, base: Bools) -> Images:
        chance = chances(rng, len(base))
        return Images(
            float(chance.mean()),
            lambda members: rng.random(members.shape) < chance[members],
            lambda: rng.random((len(base), DRAWS)) < chance[:, None],
        )

    return Population(name, draw, lambda images: mean)


def margins(mean: float, of_batch: float, of_draw: float = 0.3) -> Population:
    """Margins of images, moved by noise of their batch and draw, and by noise of their own."""
    edge = float(np.sqrt(1 + of_batch**2 + of_draw**2) * ndtri(1 - mean))

    def draw(rng: np.random.Generator, base: Bools) -> Images:
        margin = rng.standard_normal(len(base), dtype=np.float32) - edge

        def moved(still: NDArray[np.float32], batch: NDArray[np.float32]) -> Bools:
            return still + of_batch * batch + of_draw * rng.standard_normal(still.shape, dtype=np.float32) > 0

        def random(members: Members) -> Bools:
            return moved(margin[members], rng.standard_normal((len(members), 1), dtype=np.float32))

        def disjoint() -> Bools:
            batch = rng.standard_normal((len(base) // K, DRAWS), dtype=np.float32)
            return moved(np.repeat(margin[:, None], DRAWS, axis=1), np.repeat(batch, K, axis=0))

        return Images(float(ndtr(margin / np.hypot(of_batch, of_draw)).mean()), random, disjoint)

    return Population(
        f"margins with noise of {of_batch:g} a batch and draw, {mean:.0%}", draw, lambda n: mean
    )


def as_base(share: float) -> Population:
    """Right where the base model is, and everywhere in some batches."""

    def draw(rng: np.random.Generator, base: Bools) -> Images:
        def disjoint() -> Bools:
            fates = np.repeat(rng.random(len(base) // K) < share, K)
            return np.broadcast_to((base | fates)[:, None], (len(base), DRAWS))

        return Images(
            float(base.mean()) * (1 - share) + share,
            lambda members: base[members] | (rng.random((len(members), 1)) < share),
            disjoint,
        )

    truth = BASE * (1 - share) + share
    return Population(f"as the base model, and {share:.0%} of batches survive", draw, lambda images: truth)


def equal(mean: float) -> Chances:
    return lambda rng, images: np.full(images, mean)


def always_right(share: float) -> Chances:
    return lambda rng, images: (rng.random(images) < share).astype(np.float64)


def skewed(mean: float) -> Chances:
    """Most images are nearly always right or nearly always wrong."""
    return lambda rng, images: rng.beta(mean, 1 - mean, images)


def populations() -> list[Population]:
    """Those of the first two tables."""
    return [
        *(batch_kinds(share, 1, 0) for share in (0.01, 0.03, 0.05, 0.1)),
        batch_kinds(0.03, 1, 0, by_draw=True),
        batch_kinds(0.05, 0.9, 0.01, by_draw=True),
        batch_kinds(0.15, 0.9, 0.02),
        batch_kinds(0.15, 0.9, 0.15),
        saved_by(1, "one image"),
        saved_by(2, "one pair of images"),
        rare_kind(),
        *(by_sum(share) for share in (0.03, 0.1)),
        *(by_image(f"coin flips, {100 * mean:g}%", mean, equal(mean)) for mean in (0.002, 0.02, 0.9)),
        by_image("2% of images always right", 0.02, always_right(0.02)),
        *(
            by_image(f"images of different difficulty, {mean:.0%}", mean, skewed(mean))
            for mean in (0.02, 0.5)
        ),
        *(margins(0.02, noise) for noise in (0.15, 0.5)),
        as_base(0.03),
    ]


@dataclass(frozen=True)
class Victims:
    """A population of single victims.

    Attributes:
        draw: (rng, [evaluations], images, victims) -> which victims are right [evaluations, victims], and the
            accuracy on these images [evaluations]. Images are in random order; the first ones are victims.
    """

    name: str
    draw: Callable[[np.random.Generator, int, int, int], tuple[Bools, Floats]]


def victims_by_image(name: str, chances: Chances) -> Victims:
    def draw(rng: np.random.Generator, runs: int, images: int, victims: int) -> tuple[Bools, Floats]:
        chance = chances(rng, runs * images).reshape(runs, images)
        return rng.random((runs, victims)) < chance[:, :victims], chance.mean(axis=1)

    return Victims(name, draw)


def victims_by_members(
    name: str, kind: Callable[[np.random.Generator, int, int], Bools], needed: int
) -> Victims:
    """A victim survives in a batch that holds at least so many images of a kind, itself among them."""

    def draw(rng: np.random.Generator, runs: int, images: int, victims: int) -> tuple[Bools, Floats]:
        special = rng.permuted(kind(rng, runs, images), axis=1)
        count = special.sum(axis=1)
        own = special[:, :victims]
        rest = count[:, None] - own
        held = own + rng.hypergeometric(rest, images - 1 - rest, K - 1)
        return held >= needed, np.array([at_least(needed, images, int(number)) for number in count])

    return Victims(name, draw)


def victims() -> list[Victims]:
    """Those of the table of victims."""
    needed = {share: int(binom.isf(share, K, 0.5)) + 1 for share in (0.03, 0.1)}

    def first(number: int) -> Callable[[np.random.Generator, int, int], Bools]:
        return lambda rng, runs, images: np.broadcast_to(np.arange(images) < number, (runs, images))

    return [
        *(
            victims_by_image(f"{100 * mean:g}% of batches save their victim", equal(mean))
            for mean in (0.002, 0.01, 0.03, 0.1)
        ),
        victims_by_image("2% of images always right", always_right(0.02)),
        *(victims_by_image(f"images of different difficulty, {m:.0%}", skewed(m)) for m in (0.02, 0.5)),
        victims_by_members("one image saves the victim of its batch", first(1), 1),
        victims_by_members("one pair of images saves the victim of its batch", first(2), 2),
        *(
            victims_by_members(
                f"the sum over the batch decides, {share:.0%} survive",
                lambda rng, runs, images: rng.random((runs, images)) < 0.5,
                least,
            )
            for share, least in needed.items()
        ),
    ]
