"""The interface of defences: answer a batch, given one draw of its randomness; the shape of logits."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

Draw = Any  # one sample of a defence's randomness for one batch; for RCI the permutation of the slots


@runtime_checkable
class Defence(Protocol):
    """A function that classifies batches, with explicit randomness.

    Attributes:
        name: as printed in tables.
        randomised: whether two draws may give different answers.
        batch_dependent: whether the prediction for an input may depend on its co-batched inputs.
        base: the base model, for transfer attacks; None without one.

    Optional members: ``logits_grouped(x, draws)`` and ``images(k)``; ``reset()`` and ``fit(x)``, called
    before every batch (``per_batch``); ``remembers``, whether the state that ``reset`` clears may also
    persist over a sequence (``kept_memory``); ``abstain``, the index of the class that means rejection
    (``reject_class``); ``identity``, text that changes with settings that its code reads from elsewhere.
    """

    name: str
    randomised: bool
    batch_dependent: bool
    base: torch.nn.Module | None

    def sample(self, generator: torch.Generator, k: int) -> Draw:
        """Draws the randomness for a batch of ``k`` inputs from a CPU generator; None if not randomised."""

    def logits(self, x: Tensor, draw: Draw) -> Tensor:
        """Answers ``x`` (k, channels, height, width) in [0, 1] with (k, classes) logits.

        Differentiable in ``x``; uses no global random generator.
        """


def reject_class(defence: Any) -> int | None:
    """The index of the logit that means rejection; None if the defence never rejects."""
    return getattr(defence, "abstain", None)


def logits_grouped(defence: Defence, x: Tensor, draws: Sequence[Draw]) -> Tensor:
    """Answers G batches of K inputs, ``x`` (G, K, C, H, W) with one draw each -> (G, K, classes).

    Takes the defence's own ``logits_grouped`` where it has one, else answers batch by batch.
    """
    grouped = getattr(defence, "logits_grouped", None)
    if grouped is not None:
        return grouped(x, draws)
    return torch.stack([defence.logits(batch, draw) for batch, draw in zip(x, draws, strict=True)])


ONE_NUMBER = (
    "give two logits: lambda x: torch.nn.functional.pad(model(x), (1, 0)) where the number is a logit, "
    "lambda x: torch.nn.functional.pad(model(x).logit(1e-6), (1, 0)) where it is a probability"
)


def misshapen(defence: Defence, k: int, shape: tuple[int, ...]) -> str | None:
    """The fault of the shape of the logits of k inputs, if any."""
    if len(shape) != 2 or shape[0] != k:
        return f"answers {k} inputs with logits of shape {shape}, not ({k}, classes)"
    classes, reject = getattr(defence.base, "classes", None), reject_class(defence)
    if reject is not None and not 0 <= reject < shape[1]:
        return f"rejects by class {reject}, of {shape[1]} logits for each input"
    if classes is not None and reject is not None and shape[1] == classes:
        return (
            f"rejects by class {reject}, which its base model answers as a class of its own: rejecting takes "
            f"one more logit than the {classes} classes"
        )
    if classes is not None and shape[1] - (reject is not None) != classes:
        return f"answers with {shape[1]} logits for each input, its base model has {classes} classes"
    return None if shape[1] > 1 else f"answers with one number for each input; {ONE_NUMBER}"


def too_few_classes(defence: Defence, logits: int, highest: int) -> str | None:
    """The fault of so many logits where labels go up to ``highest``, if any."""
    classes = logits - (reject_class(defence) is not None)
    if highest < classes:
        return None
    from_one = "; where they begin at 1, give y - 1" if highest == classes else ""
    return (
        f"answers {classes} classes, and labels go up to {highest}: no input of that class could be right"
        f"{from_one}"
    )


class Deterministic:
    """Has no randomness and answers every input by itself."""

    name = ""
    randomised = False
    batch_dependent = False
    base: nn.Module | None = None

    def sample(self, generator: torch.Generator, k: int) -> None:
        return None


class Seeded:
    """A draw is the seed of a CPU generator of its own, so it is the same on every device."""

    name = ""
    randomised = True
    batch_dependent = False
    base: nn.Module | None = None

    def sample(self, generator: torch.Generator, k: int) -> int:
        return int(torch.randint(2**31, (), generator=generator))


class WrappedNetwork:
    """A defence around a network, pixels -> logits, which is its base model.

    Attributes:
        passes: images through the network for each input that is answered.
    """

    base: nn.Module | None
    passes = 1

    def __init__(self, model: nn.Module):
        self.base = self.model = model

    def images(self, k: int) -> int:
        """Images through the network for a batch of ``k``."""
        return k * self.passes


def normal(seed: int | torch.Generator, like: Tensor) -> Tensor:
    """Standard normal numbers of the shape of ``like``, drawn on the CPU, so that they are the same on every
    device.

    Args:
        seed: of a generator of its own, or a generator, which moves on.
    """
    generator = torch.Generator().manual_seed(seed) if isinstance(seed, int) else seed
    return torch.randn(like.shape, generator=generator).to(like)
