"""Do other generators draw other answers? A defence sees whose numbers it is given, and may answer by that.

The numbers of an evaluation come from generators of its own: fresh ones, with seeds that can be computed. In
use there is one generator, long since advanced. Draws of both kinds must be draws of one distribution.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from robustbench_coded.evaluation.selftests.scene import Scene, SelfTest, judged, not_applicable

GENERATORS = "draws of other generators"
DRAWS = 8  # of each kind
LEVEL = 5e-4  # of each of the four comparisons; the smallest that 8 draws against 8 can have is 1.6e-4
# Of a typical logit: draws of which all fell alike differ by rounding, in batches of two sizes always.
ROUNDING = 1e-4
# Statistics that differ by less are tied. Beside one draw that fell otherwise, the rounding of batches of two
# sizes would set the measured halves apart from all others.
TIED = 1e-3
MOST_USED = 4096  # random numbers that were taken from a used generator before


@dataclass(frozen=True)
class Draws:
    """How a defence draws.

    Attributes:
        scored: the ``index``-th draw of each batch for scoring, at most DRAWS of them.
        used: what it draws from a generator of each batch.
        name: what the seeds of these generators are made of.
    """

    scored: Callable[[int], Sequence[Any]]
    used: Callable[[Sequence[torch.Generator]], Sequence[Any]]
    name: str


def other_generators(scene: Scene, x: Tensor, draws: Draws) -> SelfTest:
    """Compares answers to ``x`` under draws for scoring with those under the attacker's and in use.

    An exact permutation test of the draws, on the mean and the spread of all logits (B. Efron and R. J.
    Tibshirani, An introduction to the bootstrap, chapter 15).

    Args:
        x: perturbed inputs [G, K, C, H, W].
    """
    if not scene.oracle.randomised:
        return not_applicable(GENERATORS, "The defence is deterministic: it draws nothing.")
    ask: tuple[Callable[[int], Sequence[Any]], ...] = (
        draws.scored,
        lambda index: draws.used(_used(draws.name, index, len(x))),
        scene.draws,
    )
    scored, *others = (
        torch.stack([scene.answers(x, draw(index)).flatten() for index in range(DRAWS)]) for draw in ask
    )
    chances = [chance_of(scored, other) for other in others]
    kinds = ("generators that were used before", "the attacker's draws")
    told = " and ".join(f"{chance:.2g} for {kind}" for chance, kind in zip(chances, kinds, strict=True))
    finding = (
        f"Under draws for scoring and others its answers differ as much with probability {told}, if it does "
        "not tell them apart."
    )
    return judged(GENERATORS, min(chances) > LEVEL, finding, used=chances[0], attacker=chances[1])


def _used(name: str, index: int, batches: int) -> list[torch.Generator]:
    """A generator of each batch from which numbers were taken before."""
    generators = []
    for batch in range(batches):
        digest = hashlib.blake2b(f"{name}/{index}/{batch}".encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
        taken = int(torch.randint(1, MOST_USED, (), generator=generator))
        torch.rand(taken, generator=generator)
        generators.append(generator)
    return generators


def chance_of(first: Tensor, second: Tensor) -> float:
    """The smaller p-value of two permutation tests on [DRAWS, values] each: of means and of spreads."""
    both = torch.nan_to_num(torch.cat([first, second]).cpu().double())
    away = (both - both.median(0).values).abs()
    least = ROUNDING * float(both.abs().amax(0).median().clamp(min=1e-30))
    return min(_p_value(both, least), _p_value(away, least))


def _p_value(values: Tensor, least: float) -> float:
    """That two halves of [draws, values] chosen at random have means as different, in standard deviations.

    Values that vary by no more than ``least`` are left out.
    """
    scale = values.std(0)
    usable = scale > least
    if not bool(usable.any()):
        return 1.0
    centred = ((values - values.mean(0)) / scale)[:, usable]
    products = centred @ centred.T
    halves = torch.full((len(_HALVES), len(values)), -1.0, dtype=values.dtype)
    halves[torch.arange(len(_HALVES))[:, None], torch.tensor(_HALVES)] = 1.0
    statistics = ((halves @ products) * halves).sum(1)
    return float((statistics >= statistics[0] * (1 - TIED)).double().mean())


_HALVES = list(combinations(range(2 * DRAWS), DRAWS))  # the first is the one that was measured


ONE_INPUT = "draws for one input"


@dataclass(frozen=True)
class Batches:
    """Batches of the size that is evaluated, and of one input.

    Attributes:
        k: the size that is evaluated.
        answers: of the defence to inputs [B, C, H, W] under its ``index``-th draw for B inputs, [B, classes].
    """

    k: int
    answers: Callable[[Tensor, int], Tensor]


def one_input(scene: Scene, x: Tensor, batches: Batches) -> SelfTest:
    """Compares the answers to the first of ``x`` under DRAWS draws, by a permutation test of the draws.

    Args:
        x: perturbed inputs [G, K, C, H, W].
    """
    if not scene.oracle.randomised or scene.batch_dependent or batches.k == 1:
        return not_applicable(
            ONE_INPUT, "It draws nothing, depends on the batch, or is only asked about one input."
        )
    inputs = x.flatten(0, 1)
    whole = inputs[torch.arange(batches.k, 0, -1) % len(inputs)]
    whole[-1] = inputs[0]

    def asked(batch: Tensor, first: int) -> Tensor:
        # Draws of other indices: the same generators would lead to the same numbers in both sizes.
        drawn = [batches.answers(batch, first + index)[-1] for index in range(DRAWS)]
        scene.forwards += DRAWS * len(batch)
        return torch.stack(drawn)

    chance = chance_of(asked(whole, 0), asked(inputs[:1], DRAWS))
    finding = (
        f"Alone and in the last slot of a batch of {batches.k}, an input's answers differ as much with "
        f"probability {chance:.2g}, if neither changes its draws."
    )
    return judged(ONE_INPUT, chance > LEVEL, finding, chance=chance)
