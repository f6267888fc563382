"""Wall times of several contenders: measured in turns and compared within each turn."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

import torch


@dataclass(frozen=True)
class Contender:
    """Something to be timed.

    Attributes:
        name: as printed.
        images: images through the network in one call, one per forward (with its backward, if any).
        run: one call.
        against: name of the contender whose cost it is compared with; None for none.
    """

    name: str
    images: int
    run: Callable[[], Any]
    against: str | None = None


@dataclass(frozen=True)
class Spread:
    """A median and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        if len(values) < 2:
            return cls(values[0], values[0], values[0])
        low, _, high = quantiles(values, n=4, method="inclusive")
        return cls(median(values), low, high)


@dataclass(frozen=True)
class Timing:
    """What was measured of one contender.

    Attributes:
        name, images, against: as of the contender.
        seconds: wall time of each call, in the order of the rounds.
        cost: time per image over that of ``against``, round by round; None without it.
    """

    name: str
    images: int
    against: str | None
    seconds: tuple[float, ...]
    cost: Spread | None

    @property
    def per_image(self) -> Spread:
        """Seconds."""
        return Spread.of([seconds / self.images for seconds in self.seconds])


def interleaved(contenders: Sequence[Contender], rounds: int, device: torch.device) -> list[Timing]:
    """Calls each contender once per round, in alternating order, after one round that is not counted.

    Other load on the machine then affects all contenders alike and cancels in ratios within a round.
    """
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for turn in range(-1, rounds):
        for contender in contenders if turn % 2 else reversed(contenders):
            taken = _timed(contender.run, device)
            if turn >= 0:
                seconds[contender.name].append(taken)
    images = {contender.name: contender.images for contender in contenders}

    def cost(contender: Contender) -> Spread | None:
        if contender.against is None:
            return None
        own, other = seconds[contender.name], seconds[contender.against]
        scale = images[contender.against] / contender.images
        return Spread.of([scale * a / b for a, b in zip(own, other, strict=True)])

    return [Timing(c.name, c.images, c.against, tuple(seconds[c.name]), cost(c)) for c in contenders]


def _timed(run: Callable[[], Any], device: torch.device) -> float:
    _finish(device)
    started = time.perf_counter()
    run()
    _finish(device)
    return time.perf_counter() - started


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
