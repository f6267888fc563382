"""Rugged landscapes that csrobust was not made on: encodings of pixels of other kinds, plain and wrapped.

`python -m benchmarks.oracle run FOLDER rugged` evaluates every family behind every wrapper; what came of a
first seed is in reports/zoo/rugged.csv. Networks are those of `zoo.encodings` with other functions of a
pixel, whose parameters are drawn from a seed. Robust accuracy is exact.
"""

import os
import random
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor

from benchmarks.errors.twin_parameters import Defended
from benchmarks.errors.twins import Twin
from benchmarks.errors.zoo_judged import NOTHING
from robustbench_coded.defences.options import installed
from zoo.encodings import CODES, EXAMPLES, known_encoded, trained
from zoo.known import Known

Code = Callable[[Tensor], Tensor]


def _waves(p: random.Random) -> Code:
    """Triangle waves."""
    waves = torch.tensor([2 ** p.uniform(0, 4) for _ in range(8)])
    phases = torch.tensor([p.random() for _ in range(8)])
    return lambda x: 4 * ((x[..., None] * waves.to(x) + phases.to(x)) % 1 - 0.5).abs() - 1


def _chebyshev(p: random.Random) -> Code:
    """Chebyshev polynomials, up to a degree that is drawn."""
    degrees = torch.arange(1, p.randint(9, 14))
    return lambda x: torch.cos(degrees.to(x) * torch.acos((2 * x[..., None] - 1).clamp(-0.9999, 0.9999)))


def _fourier(p: random.Random) -> Code:
    """Random Fourier features."""
    waves = torch.tensor([p.gauss(0, 30) for _ in range(12)])
    phases = torch.tensor([p.uniform(0, 6.3) for _ in range(12)])
    return lambda x: torch.cos(x[..., None] * waves.to(x) + phases.to(x))


def _wavelets(p: random.Random) -> Code:
    """Second derivatives of Gaussians, of widths that are drawn."""
    widths = torch.tensor([p.uniform(0.02, 0.08) for _ in range(12)])
    centres = torch.tensor([p.random() for _ in range(12)])

    def code(x: Tensor) -> Tensor:
        u = ((x[..., None] - centres.to(x)) / widths.to(x)) ** 2
        return 2 * (1 - u) * torch.exp(-u / 2)

    return code


FAMILIES: dict[str, Callable[[random.Random], Code]] = {
    "waves": _waves,
    "chebyshev": _chebyshev,
    "fourier": _fourier,
    "wavelets": _wavelets,
}


def _random_scale(model: torch.nn.Module) -> Defended:
    """Logits times a number between 1/2 and 2, of each input and draw."""
    return Defended(
        "", lambda x, scale: model(x) * scale, lambda g, k: 2 ** (2 * torch.rand(k, 1, generator=g) - 1)
    )


def _lossless_code(model: torch.nn.Module) -> Defended:
    """The batch is mixed by a random orthogonal matrix, and unmixed before the network."""

    def draw(generator: torch.Generator, k: int) -> Tensor:
        return torch.linalg.qr(torch.randn(k, k, generator=generator))[0]

    def answer(x: Tensor, mix: Tensor) -> Tensor:
        return model((mix.T @ (mix @ x.flatten(1))).view_as(x))

    return Defended("", answer, draw, batch_dependent=True)


# Names end as those of `zoo.encodings`, which makes the first three.
WRAPPERS: dict[str, Callable[[torch.nn.Module], Defended] | None] = {
    "plain": None,
    "noise": None,
    "scaled": None,
    "random-scale": _random_scale,
    "code": _lossless_code,
}


def make(family: str, wrapper: str, seed: str) -> tuple[Twin, Known]:
    """A network of this family behind this wrapper, and its robust accuracy."""
    parameters = random.Random(f"{family} {seed}")
    eps = round(parameters.uniform(0.04, 0.10), 3)
    kind = f"{family}-{seed}"
    CODES.setdefault(kind, FAMILIES[family](parameters))
    name = kind if wrapper == "plain" else f"{kind}-{wrapper}"
    known = known_encoded(name, (kind, 0), EXAMPLES, eps)
    if (wrapped := WRAPPERS[wrapper]) is not None:
        known = Known(wrapped(trained(kind, eps, 0)), known.x, known.y, known.clean, known.truth)
        known.defence.name = name
    truth = known.truth("batch/unknown")
    entry = Twin(
        name, family, "", truth.high <= NOTHING, str(FAMILIES[family].__doc__), "linf", eps, EXAMPLES, known
    )
    installed()[name] = entry
    return entry, known
