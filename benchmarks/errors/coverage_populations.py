"""Simulated evaluations whose population accuracy is known, for `coverage.py`.

A population draws, for the batch of each example, an `Evaluation`: the judged outcomes, and the other rows of
the same subject. Examples are answered in 10 draws unless the population says otherwise.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from robustbench_coded.coding.spline import chebyshev_first, chebyshev_second, spline_matrix

K, DRAWS = 128, 10

Right = NDArray[np.bool_]
Batch = NDArray[np.int64]


@dataclass(frozen=True)
class Evaluation:
    """Outcomes [examples, draws] of the judged row, and of others of its subject."""

    judged: Right
    weaker: list[Right] = field(default_factory=list)
    clean: list[Right] = field(default_factory=list)


@dataclass(frozen=True)
class Population:
    """Where evaluations come from, and the accuracy that they are samples of."""

    name: str
    simulate: Callable[[np.random.Generator, Batch], Evaluation]
    truth: float


@dataclass(frozen=True)
class Pair:
    """Two rows over the same batches, and the difference of their population accuracies.

    Attributes:
        base: whether the second row is a deterministic base model that answers its inputs one by one.
    """

    name: str
    simulate: Callable[[np.random.Generator, Batch], tuple[Right, Right]]
    truth: float
    base: bool = True


def flips(
    rng: np.random.Generator, batch: Batch, accuracy: NDArray[np.floating], draws: int = DRAWS
) -> Right:
    """Independent answers; ``accuracy`` [batches]."""
    return rng.random((len(batch), draws), dtype=np.float32) < accuracy[batch][:, None]


def accuracies(rng: np.random.Generator, batches: int, mean: float, rho: float) -> NDArray[np.floating]:
    """Of batches: equal for rho 0, beta-distributed with correlation ``rho``, all or nothing for rho 1."""
    if rho in (0, 1):
        return np.full(batches, mean) if rho == 0 else (rng.random(batches) < mean).astype(float)
    spread = 1 / rho - 1
    return rng.beta(mean * spread, (1 - mean) * spread, batches)


def correlated(mean: float, rho: float, draws: int = DRAWS) -> Population:
    """Coin flips for rho 0, beta batches between, whole batches for rho 1."""

    def simulate(rng: np.random.Generator, batch: Batch) -> Evaluation:
        return Evaluation(flips(rng, batch, accuracies(rng, batch[-1] + 1, mean, rho), draws))

    kind = {0.0: "coin flips", 1.0: "whole batches"}.get(rho, f"beta batches, rho {rho:g}")
    return Population(f"{kind}, mean {mean:g}", simulate, mean)


def survival(share: float, rest: float) -> Population:
    """A ``share`` of batches keeps 97% whatever the attack, the others ``rest``; more survive weaker
    attacks."""

    def simulate(rng: np.random.Generator, batch: Batch) -> Evaluation:
        fate = rng.random(batch[-1] + 1)
        judged, *weaker = (
            flips(rng, batch, np.where(fate < kept, 0.97, left))
            for kept, left in ((share, rest), (0.5, 0.3), (0.7, 0.5))
        )
        return Evaluation(judged, weaker, [flips(rng, batch, np.full(len(fate), 0.97))])

    return Population(
        f"{share:.0%} of batches keep 97%, the others {rest:.0%}; two weaker attacks",
        simulate,
        share * 0.97 + (1 - share) * rest,
    )


def two_kinds(share: float, kept: float, rest: float) -> Population:
    """A ``share`` of batches keeps ``kept``, the others ``rest``; no other row shows that there are two."""

    def simulate(rng: np.random.Generator, batch: Batch) -> Evaluation:
        fate = rng.random(batch[-1] + 1) < share
        return Evaluation(flips(rng, batch, np.where(fate, kept, rest)))

    return Population(
        f"{share:.0%} of batches keep {kept:.0%}, the others {rest:.0%}",
        simulate,
        share * kept + (1 - share) * rest,
    )


def random_ensemble(accuracies: tuple[float, ...]) -> Population:
    """Each batch and draw is answered by one of several networks; an example is as hard for all of them."""

    def simulate(rng: np.random.Generator, batch: Batch) -> Evaluation:
        chosen = rng.choice(accuracies, (batch[-1] + 1, DRAWS))
        return Evaluation(rng.random((len(batch), 1)) < chosen[batch])

    return Population("one of two networks, 90% or 30%", simulate, float(np.mean(accuracies)))


def random_ensemble_known(few: int) -> Population:
    """One of two networks for each batch and draw; an attacker who knows it attacked ``few`` draws.

    A weaker attack without that knowledge was scored in `DRAWS` draws.
    """

    def simulate(rng: np.random.Generator, batch: Batch) -> Evaluation:
        def row(accuracies: tuple[float, float], draws: int) -> Right:
            return rng.random((len(batch), 1)) < rng.choice(accuracies, (batch[-1] + 1, draws))[batch]

        return Evaluation(row((0.9, 0.5), few), [row((0.95, 0.65), DRAWS)])

    return Population(f"one of two networks, 90% or 50%, {few} known draws", simulate, 0.7)


def noisy(noise: float, draws: int) -> Population:
    """A margin for each example and noise for each answer; a weaker attack was scored in `DRAWS` draws."""

    def simulate(rng: np.random.Generator, batch: Batch) -> Evaluation:
        margins = 0.6 + rng.standard_normal((len(batch), 1))
        judged, weaker = (
            margins + noise * rng.standard_normal((len(batch), count)) > 0 for count in (draws, DRAWS)
        )
        return Evaluation(judged, [weaker])

    return Population(
        f"noise of {noise:g} margins, {draws} draws", simulate, float(ndtr(0.6 / np.hypot(1, noise)))
    )


def rci_linear(n: int, margin: float, batches: int = 20_000) -> Population:
    """A linear classifier of two classes under randomised coded inference with ``n`` coded inputs.

    Scores are y (margin + N(0, 1)). The network is linear, so decoding commutes with it: in a draw with
    permutation P the scores of a batch become P^T D E P times them. The truth is the mean over ``batches``;
    of 20,000 its standard error is below 0.0003.
    """

    def answers(rng: np.random.Generator, batches: int) -> Right:
        label = rng.choice(np.array([-1, 1], np.float32), (batches, K))
        score = label * (margin + rng.standard_normal((batches, K), dtype=np.float32))
        slots = rng.random((DRAWS, batches, K), dtype=np.float32).argsort(axis=-1)
        decoded = np.take_along_axis(np.broadcast_to(score, slots.shape), slots, axis=-1) @ code_matrix(n).T
        answered = np.empty_like(decoded)
        np.put_along_axis(answered, slots, decoded, axis=-1)
        return (answered * label > 0).reshape(DRAWS, -1).T

    rng = np.random.default_rng(1)
    truth = float(np.mean([answers(rng, 500).mean() for _ in range(batches // 500)]))
    name = f"linear model under RCI N={n}"
    return Population(name, lambda rng, batch: Evaluation(answers(rng, batch[-1] + 1)[: len(batch)]), truth)


@cache
def code_matrix(n: int) -> NDArray[np.float32]:
    """D E, [K, K]: what coded inference does to the scores of a linear network."""
    alpha, beta = chebyshev_first(K), chebyshev_second(n)
    return (spline_matrix(beta, alpha) @ spline_matrix(alpha, beta)).astype(np.float32)


def above_base(mean: float, rho: float, base: float) -> Pair:
    """A batch-dependent defence and its base model."""

    def simulate(rng: np.random.Generator, batch: Batch) -> tuple[Right, Right]:
        defended = flips(rng, batch, accuracies(rng, batch[-1] + 1, mean, rho))
        return defended, flips(rng, batch, np.full(batch[-1] + 1, base), draws=1)

    kind = {0.0: "coin flips", 1.0: "whole batches"}.get(rho, f"rho {rho:g}")
    return Pair(f"{mean:.0%} ({kind}) above a base of {base:.0%}", simulate, mean - base)


def alike(mean: float, other: float) -> Pair:
    """Two attacks: what is hard in a batch is hard for both of them."""

    def simulate(rng: np.random.Generator, batch: Batch) -> tuple[Right, Right]:
        deviation = rng.normal(0, 0.1, batch[-1] + 1)
        return flips(rng, batch, mean + deviation), flips(rng, batch, other + deviation)

    return Pair(f"two attacks, {mean:.0%} and {other:.0%}, batches alike", simulate, mean - other, base=False)


def nested(mean: float, rho: float, taken: float) -> Pair:
    """The second attack also breaks a share ``taken`` of what the first one leaves, example by example."""

    def simulate(rng: np.random.Generator, batch: Batch) -> tuple[Right, Right]:
        first = flips(rng, batch, accuracies(rng, batch[-1] + 1, mean, rho))
        return first, first & flips(rng, batch, np.full(batch[-1] + 1, 1 - taken))

    name = f"{mean:.0%} (rho {rho:g}), the second breaks {taken:.0%} of it"
    return Pair(name, simulate, mean * taken, base=False)
