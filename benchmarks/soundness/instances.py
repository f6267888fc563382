"""Defences of known truth: networks with planted counterexamples and robust twins, bare and behind a
mechanism.

    INSTANCES              names of the mechanism and of what is planted, in order
    make(name, seed)       -> Instance

Every mechanism answers each image by a member's answer to a point at most `shift` away, so both lemmas of
`benchmarks.soundness.networks` carry over. Robust accuracy, whatever the attacker knows, is then

    planted in every member     0: the planted point is answered wrongly in every draw
    planted in one of three     2/3: that member answers the point wrongly, the others are certified
    planted nowhere             1, or 1 - q behind a coin that replaces the answer with probability q

Mechanisms: `bare`. `noise`: uniform noise of at most `shift` on each pixel. `ensemble`: one of three
members for each image. `code`: logits of a batch, multiplied by a random Gaussian matrix with K/3 more
rows, lose most of these and are decoded by least squares; any K rows have full rank, so decoding returns
the logits. `batch`: the batch's mean less that of the training images, cut to `shift`, is taken away from
each image. `coin`: another class with probability q.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from benchmarks.errors.twin_networks import CLASSES, Network, trained
from benchmarks.errors.twin_parameters import Defended
from benchmarks.errors.twins import Twin
from benchmarks.soundness.networks import (
    SHIFT,
    Scene,
    ascent,
    check_planted,
    check_robust,
    fill,
    plant,
    separated,
)
from robustbench_coded.data.named_sets import load_digits
from robustbench_coded.defences.options import installed
from zoo.known import Known, exactly

EXAMPLES, BATCH, MEMBERS, COIN = 64, 32, 3, 0.15
EPS = (0.07, 0.08, 0.09)
MECHANISMS_PLANTED = ("bare", "noise", "ensemble", "code", "batch")
INSTANCES = (
    *(f"{mechanism}-{pits}" for mechanism in MECHANISMS_PLANTED for pits in ("m2", "m4", "robust")),
    "bare-m1",
    "bare-m8",
    "ensemble-m1",
    "noise-m1",
    "ensemble-third",
    "coin-robust",
    "code-m1",
    "batch-m1",
    "ensemble-m8",
)  # fmt: skip


@dataclass(frozen=True)
class Instance:
    """A defence with its images, and what is true of it.

    Attributes:
        planted: the planted counterexamples [n, 1, 8, 8]; None for none.
    """

    name: str
    entry: Twin
    known: Known
    planted: Tensor | None

    @property
    def truth(self) -> float:
        """Robust accuracy."""
        return self.known.truth("batch/unknown").high


@lru_cache(maxsize=2)
def scene_of(seed: int, pixels: int) -> tuple[Scene, list[Network]]:
    """Images that three bases of this seed certify, far enough apart, and the bases."""
    generator = torch.Generator().manual_seed(seed)
    eps = EPS[int(torch.randint(len(EPS), (), generator=generator))]
    bases = [trained(10 * seed + i, round((1 + SHIFT) * eps, 4), fragile=False) for i in range(MEMBERS)]
    data = load_digits("test")
    x, y = data.batch(range(len(data)))
    certified = torch.stack([base.certified(x, y, (1 + SHIFT) * eps) for base in bases]).all(0)
    x, y = x[certified], y[certified]
    rows = separated(x, eps)[:EXAMPLES]
    x, y = x[rows], y[rows]
    target = (y + torch.randint(1, CLASSES, y.shape, generator=generator)) % CLASSES
    return Scene(x, y, target, eps, pixels), bases


def make(name: str, seed: int) -> Instance:
    """An instance; evaluations find its defence by its name.

    Raises:
        AssertionError: a condition of the proofs does not hold.
    """
    mechanism, _, pits = name.partition("-")
    pixels = int(pits[1:]) if pits.startswith("m") else 4
    scene, bases = scene_of(seed, pixels)
    bases = bases if mechanism == "ensemble" else bases[:1]
    led = torch.stack([ascent(base, scene.x, scene.y) for base in bases]).mean(0)
    members, points = [], None
    for i, base in enumerate(bases):
        if pits == "robust" or (pits == "third" and i):
            model = fill(base, scene, led)
            assert check_robust(model, scene)
        else:
            model, points = plant(base, scene, led)
            assert check_planted(model, scene, points)
        members.append(model)
    defence = MECHANISMS[mechanism](members, scene)
    defence.name = f"soundness-{name}-{seed}"
    standing = {"robust": 1.0, "third": 1 - 1 / MEMBERS}.get(pits, 0.0) * (
        1 - COIN if mechanism == "coin" else 1
    )
    clean = exactly(1 - COIN if mechanism == "coin" else 1.0)
    known = Known(defence, scene.x, scene.y, clean, lambda threat: exactly(standing), k=BATCH)
    broken = standing == 0
    entry = Twin(defence.name, mechanism, "", broken, name, "linf", scene.eps, len(scene.x), known)
    installed()[defence.name] = entry
    return Instance(name, entry, known, points)


Members = list[Any]


def _noise(members: Members, scene: Scene) -> Defended:
    def draws(g: torch.Generator, k: int) -> Tensor:
        return scene.shift * (2 * torch.rand(k, 1, 8, 8, generator=g) - 1)

    return Defended("", lambda x, noise: members[0]((x + noise).clamp(0, 1)), draws)


def _ensemble(members: Members, scene: Scene) -> Defended:
    def answer(x: Tensor, chosen: Tensor) -> Tensor:
        return torch.stack([member(x) for member in members])[chosen, torch.arange(len(x))]

    def draws(g: torch.Generator, k: int) -> Tensor:
        return torch.randint(len(members), (k,), generator=g)

    return Defended("", answer, draws, copies=len(members))


def _code(members: Members, scene: Scene) -> Defended:
    def draws(g: torch.Generator, k: int) -> Tensor:
        sent = k + -(-k // 3)
        kept = torch.randperm(sent, generator=g)[: k + (sent - k) // 4]
        return torch.randn(sent, k, generator=g, dtype=torch.float64)[kept]

    def answer(x: Tensor, code: Tensor) -> Tensor:
        logits = members[0](x)
        received = code @ logits.double()
        return torch.linalg.lstsq(code, received).solution.to(logits.dtype)

    return Defended("", answer, draws, batch_dependent=True)


def _batch(members: Members, scene: Scene) -> Defended:
    stored = load_digits("train").batch(range(512))[0].mean(0)

    def answer(x: Tensor, _: None) -> Tensor:
        shift = (x.mean(0) - stored).clamp(-scene.shift, scene.shift)
        return members[0]((x - shift).clamp(0, 1))

    return Defended("", answer, batch_dependent=True)


def _coin(members: Members, scene: Scene) -> Defended:
    def answer(x: Tensor, heads: Tensor) -> Tensor:
        logits = members[0](x)
        return torch.where(heads[:, None], logits.roll(1, 1), logits)

    return Defended("", answer, lambda g, k: torch.rand(k, generator=g) < COIN)


MECHANISMS: dict[str, Callable[[Members, Scene], Defended]] = {
    "bare": lambda members, scene: Defended("", lambda x, _: members[0](x)),
    "noise": _noise,
    "ensemble": _ensemble,
    "code": _code,
    "batch": _batch,
    "coin": _coin,
}
