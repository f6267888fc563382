"""The map from pixels to what a network takes: (pixel - mean) / std per channel. Imports no torch."""

import math
from dataclasses import dataclass
from typing import Literal

from robustbench_coded.errors import InputError, did_you_mean


@dataclass(frozen=True)
class Normalisation:
    """Mean and deviation per channel, for pixels in [0, 1].

    Attributes:
        name: one of :data:`KNOWN`, or ``custom``.
        mean: one number a channel.
        std: one positive number a channel.
    """

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.std):
            raise ValueError(
                f"expected as many means as deviations, got {len(self.mean)} and {len(self.std)}"
            )
        if not all(map(math.isfinite, self.mean + self.std)) or min(self.std) <= 0:
            raise ValueError(f"expected finite means and positive deviations, got {self}")

    def __str__(self) -> str:
        return "/".join(",".join(f"{value:g}" for value in values) for values in (self.mean, self.std))


# Where a normalisation comes from: the user, the file, what batch-norms remember, or nowhere.
Source = Literal["given", "stored", "recognised", "unknown"]


CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)

# By number of channels, what --normalize knows by name and what a checkpoint without any is tried on.
KNOWN: dict[int, dict[str, Normalisation]] = {
    channels: {normalisation.name: normalisation for normalisation in choices}
    for channels, choices in {
        1: (
            Normalisation("none", (0.0,), (1.0,)),
            Normalisation("mnist", (0.1307,), (0.3081,)),
            Normalisation("fashion-mnist", (0.2860,), (0.3530,)),
            Normalisation("half", (0.5,), (0.5,)),
            Normalisation("bytes", (0.0,), (1 / 255,)),  # pixels from 0 to 255
        ),
        3: (
            Normalisation("none", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
            Normalisation("cifar10", CIFAR10_MEAN, (0.2470, 0.2435, 0.2616)),
            # The mean of the images' own deviations, which much published code divides by.
            Normalisation("cifar10-2023", CIFAR10_MEAN, (0.2023, 0.1994, 0.2010)),
            Normalisation("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            Normalisation("half", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
            Normalisation("bytes", (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
            Normalisation("cifar100", (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
            Normalisation("tiny-imagenet", (0.4802, 0.4481, 0.3975), (0.2770, 0.2691, 0.2821)),
            Normalisation("svhn", (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
        ),
    }.items()
}


def known_names() -> list[str]:
    """Every name that ``--normalize`` takes."""
    return list(dict.fromkeys(name for choices in KNOWN.values() for name in choices))


def named(mean: tuple[float, ...], std: tuple[float, ...]) -> Normalisation:
    """The normalisation of these numbers: a known one where they agree to 1e-6, as float32 rounds them.

    Raises:
        ValueError: counts that differ, no finite means or no positive deviations.
    """
    custom = Normalisation("custom", mean, std)
    for known in KNOWN.get(len(mean), {}).values():
        pairs = zip(custom.mean + custom.std, known.mean + known.std, strict=True)
        if all(abs(ours - theirs) <= 1e-6 for ours, theirs in pairs):
            return known
    return custom


def parse_normalisation(text: str, channels: int) -> Normalisation:
    """Reads ``--normalize``: a known name, or ``m,m,m/s,s,s`` (``m/s`` for one channel).

    Args:
        text: what the user wrote.
        channels: channels of the checkpoint, 1 or 3.
    Raises:
        InputError: unknown, not numbers, or for another number of channels.
    """
    known = KNOWN.get(channels, {})
    if text in known:
        return known[text]
    if text in known_names():
        raise InputError(
            f"--normalize {text} is not for {channels} channels; those are {', '.join(known)} or m/s"
        )
    means, _, deviations = text.partition("/")
    try:
        mean = tuple(float(value) for value in means.split(","))
        std = tuple(float(value) for value in deviations.split(","))
        normalisation = named(mean, std)
    except ValueError:
        raise InputError(
            f"--normalize {text}: {did_you_mean(text, known_names())}expected {', '.join(known_names())} or "
            "m,m,m/s,s,s with positive deviations"
        ) from None
    if len(normalisation.mean) != channels:
        raise InputError(
            f"--normalize {text} is for {len(normalisation.mean)} channels, the checkpoint has {channels}"
        )
    return normalisation
