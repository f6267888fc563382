"""Does an answer depend on anything beside batch and draw: on earlier questions, or on a layer's mode?"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from attacks.gradients import raise_machine_fault, slope
from robustbench_coded.defences.per_batch import changed_by
from robustbench_coded.defences.protocol import Defence, Draw
from robustbench_coded.models.in_memory import networks_in, own_copy

CALLS = 200  # questions about other inputs after which the first one is asked again
WITH_GRADIENTS = 10  # every so many of them are differentiated
ROUNDING = 1e-4  # of the largest logit, or of the largest component of the gradient
NEAR = (1e-3, 1e-2, 0.05)  # in pixels, of near-duplicates
_UNSET = (
    "; if that is chance, it comes from a source that no draw sets: let sample(generator, k) return a seed "
    "or the random numbers themselves; a module may use the global generators of torch, numpy or Python, or "
    "generators among its attributes"
)
_DROPOUT = (nn.modules.dropout._DropoutNd, nn.RReLU)


@dataclass
class Sentinel:
    """A question whose answer and gradient are known, to be asked again later.

    Attributes:
        defence: who is asked.
        x: images [k, C, H, W]; a copy is handed out each time.
        draw: of the defence's randomness.
        answer: the logits that were given first, [k, classes].
        slope: the first gradient of the cross-entropy, like ``x``.
    """

    defence: Defence
    x: Tensor
    draw: Draw
    answer: Tensor
    slope: Tensor

    @classmethod
    def ask(cls, defence: Defence, x: Tensor, draw: Draw) -> "Sentinel":
        """Asks for the first time."""
        return cls(defence, x.clone(), draw, _answer(defence, x, draw), _slope(defence, x, draw))

    def answer_moved(self) -> float:
        """How far the answer is from the first, as a share of the largest logit; NaN where either is."""
        return _moved(self.answer, _answer(self.defence, self.x, self.draw))

    def change(self) -> str | None:
        """The change since the first query, as a clause; None if there is none."""
        first_then_now = (
            ("answer", self.answer, _answer(self.defence, self.x, self.draw)),
            ("gradient", self.slope, _slope(self.defence, self.x, self.draw)),
        )
        for what, first, now in first_then_now:
            if not (moved := _moved(first, now)) <= ROUNDING:
                return f"its {what} to one batch under one draw has changed {_by(moved)}"
        return None


def _by(moved: float) -> str:
    if math.isfinite(moved):
        return f"by {moved:.1%}"
    return "to one that is NaN, infinite or of another shape, or can't be had"


def memory_of(defence: Defence, x: Tensor, generator: torch.Generator) -> list[str]:
    """Hidden state that predictions depend on besides batch and draw, a clause for each kind.

    Meant to be the first that the defence is asked. Costs about CALLS questions about two inputs, or four
    where answers depend on the batch.

    Args:
        x: images [k, C, H, W] in [0, 1]; at least 4.
    """
    draw = defence.sample(generator, len(x))
    near = [_near(x, size) for size in NEAR]
    fresh = _answered_by_a_copy(defence, near[1], draw)
    sentinel = Sentinel.ask(defence, x, draw)
    if change := sentinel.change():
        unset = _UNSET if math.isfinite(sentinel.answer_moved()) else ""
        return [f"has a memory: asked again at once, {change}{unset}"]
    where = "to an input after it was asked about one that is nearly the same"
    answers = []
    for duplicate in near:
        answers.append(_answer(defence, duplicate, draw))
        if (
            duplicate is near[1]
            and fresh is not None
            and not (moved := _moved(fresh, answers[1])) <= ROUNDING
        ):
            return [f"has a memory: its answer {where} is another, changed {_by(moved)}"]
    if change := sentinel.change():
        return [f"has a memory: after near-duplicates of a batch {change}"]
    few = 4 if defence.batch_dependent else 2
    for call in range(CALLS):
        other = (1 - x).roll(call, 0)[:few] * (1 - call / (2 * CALLS))
        other_draw = defence.sample(generator, len(other))
        if call % WITH_GRADIENTS:
            _answer(defence, other, other_draw)
        else:
            _slope(defence, other, other_draw)
    if change := sentinel.change():
        return [f"has a memory: after {CALLS} other questions {change}"]
    for duplicate, answer in zip(near, answers, strict=True):
        _answer(defence, 1 - x, draw)
        if not (moved := _moved(answer, _answer(defence, duplicate, draw))) <= ROUNDING:
            return [f"has a memory: its answer {where} is another, changed {_by(moved)}"]
    return _modes(defence, sentinel)


def _modes(defence: Defence, sentinel: Sentinel) -> list[str]:
    with _evaluating(defence) as names:
        moved = sentinel.answer_moved() if names else 0.0
    if moved <= ROUNDING:
        return []
    return [
        f"answers otherwise once its parts are in evaluation mode, changed {_by(moved)} "
        f"(in training mode: {', '.join(names[:3])}); call eval() where it is built"
    ]


@contextmanager
def _evaluating(defence: Defence) -> Iterator[list[str]]:
    """Puts what is in training mode into evaluation mode for a while; yields the names of those parts.

    Not dropout where the defence says that it is randomised, nor batch normalisation where it says that its
    answers depend on the batch: there training mode may be the defence.
    """
    layers: list[tuple[str, nn.Module]] = []
    for top in networks_in(defence):
        for name, layer in top.named_modules():
            meant = (defence.randomised and isinstance(layer, _DROPOUT)) or (
                defence.batch_dependent and isinstance(layer, nn.modules.batchnorm._BatchNorm)
            )
            if layer.training and not meant:
                layers.append((name or type(layer).__name__, layer))
    with in_evaluation_mode([layer for _, layer in layers]):
        yield [name for name, _ in layers]


@contextmanager
def in_evaluation_mode(layers: Sequence[nn.Module]) -> Iterator[None]:
    """Puts layers in training mode into evaluation mode for a while, each by itself."""
    for layer in layers:
        layer.training = False
    try:
        yield
    finally:
        for layer in layers:
            layer.training = True


def _answered_by_a_copy(defence: Defence, x: Tensor, draw: Draw) -> Tensor | None:
    """What a copy that was asked nothing before says; None where the defence has no copy that answers."""
    copied = own_copy(defence)
    if copied is None and defence.base is not None:
        copied = own_copy(defence, defence.base.modules())
    answer = torch.empty(0) if copied is None else _answer(copied, x, draw)
    return answer if answer.numel() else None


def _near(x: Tensor, size: float) -> Tensor:
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
    return (x + size * (2 * noise - 1)).clamp(0, 1)


def _answer(defence: Defence, x: Tensor, draw: Draw) -> Tensor:
    # Copies: a defence may write into its input, or hand out one buffer again and again.
    try:
        with torch.no_grad():
            return defence.logits(x.clone(), draw).clone()
    except Exception as error:  # it may fail at some inputs, but then it must do so again
        raise_machine_fault(error)
        return torch.empty(0)


def own_cross_entropy(logits: Tensor) -> Tensor:
    """The cross-entropy of logits [k, classes] towards the classes that they name, summed."""
    return functional.cross_entropy(logits, logits.detach().argmax(-1), reduction="sum")


def _slope(defence: Defence, x: Tensor, draw: Draw) -> Tensor:
    try:
        return slope(lambda leaf: defence.logits(leaf, draw), own_cross_entropy, x)
    except Exception as error:  # it has no gradients, and the probe says so
        raise_machine_fault(error)
        return torch.empty(0)


def _moved(first: Tensor, second: Tensor) -> float:
    change = changed_by(first, second)
    if change in (0.0, torch.inf):
        return change
    return change / max(float(first.nan_to_num(0.0, 0.0, 0.0).abs().max()), 1e-30)
