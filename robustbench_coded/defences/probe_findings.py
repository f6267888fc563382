"""Findings of the probe of a defence: contradictions to its declaration,
warnings, a base that does not answer.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from attacks.gradients import raise_machine_fault
from robustbench_coded.defences.protocol import Defence, misshapen, reject_class
from robustbench_coded.errors import described
from robustbench_coded.schema.words import STANDARD

# Changes below this share of the largest logit are rounding. Another batch size may be computed by another
# algorithm, on a GPU in less precision, hence the looser second figure.
ROUNDING = 1e-4
ROUNDING_ACROSS_SIZES = 1e-2
# Draws that are compared with each other.
DRAWS = 4
# What a network that samples out of sight can do.
_UNSEEDED = (
    "; let the network draw from torch's, numpy's or Python's global generators, or from generators that are "
    "attributes of its modules: those are set before each answer"
)
# Share of clean inputs without an answer up to which these are errors of a defence like any other.
UNANSWERED = 0.05


@dataclass(frozen=True)
class ProbeResult:
    """Measurements of a probe. Changes are the largest absolute change of any logit, in units of logits.

    Attributes:
        k: inputs in the batch.
        scale: largest absolute logit.
        shape: of the logits, which should be (k, classes).
        unanswered: share of inputs, over DRAWS draws, with a logit that is NaN or infinite. Where it is 1
            nothing else was measured.
        same_draw: change between two answers to one input under one draw.
        other_draws: change between draws.
        global_state: change when nothing but the process's global random generators differs.
        co_batched: change of the other answers when one co-batched input is changed.
        co_batched_by: what was done to it in the worst case.
        all_co_batched: change of one answer when all the other inputs are changed.
        cross_gradient: gradient of half the answers with respect to the inputs of the other half, as a share
            of the gradient with respect to their own.
        other_size: change of the first answers when the batch is cut in half; None where draws or co-batched
            inputs differ anyway.
        other_size_error: what happened when half a batch was asked, if it failed.
        other_slot: change of an answer when its input moves to another slot, the others as before; None
            where draws belong to slots.
        grouped: change between ``logits_grouped`` and ``logits``; None where there is no ``logits_grouped``.
        no_gradient: why logits cannot be differentiated in the input, a clause; empty where they can.
        zero_gradients: share of inputs at which cross-entropy has gradient zero in every pixel.
        nan_gradients: share of inputs with NaN or infinite gradients.
        training_layers: batch normalisation and dropout left in training mode, by name.
    """

    k: int
    scale: float
    shape: tuple[int, ...]
    unanswered: float
    same_draw: float = 0.0
    other_draws: float = 0.0
    global_state: float = 0.0
    co_batched: float = 0.0
    co_batched_by: str = ""
    all_co_batched: float = 0.0
    cross_gradient: float = 0.0
    other_size: float | None = None
    other_size_error: str | None = None
    other_slot: float | None = None
    grouped: float | None = None
    no_gradient: str = ""
    zero_gradients: float = 0.0
    nan_gradients: float = 0.0
    training_layers: tuple[str, ...] = field(default=())

    @property
    def randomised(self) -> bool:
        """True if some draw gave another answer."""
        return self.moved(self.other_draws)

    @property
    def batch_dependent(self) -> bool:
        """True if some answer followed its co-batched inputs."""
        return (
            self.moved(self.co_batched) or self.moved(self.all_co_batched) or self.cross_gradient > ROUNDING
        )

    def moved(self, change: float, rounding: float = ROUNDING) -> bool:
        """True if a change is more than rounding."""
        # NaN compares false with everything; it must count as a change.
        return not change <= rounding * self.scale


_TAKEN = "seems to classify inputs independently of the others in the batch, but"
_DECLARE = "; set batch_dependent = True"
_OR_DRAW = (
    ", or let an input use the same random numbers whatever the others are (torch.poisson and torch.binomial "
    "take more or fewer)"
)


def contradictions(defence: Defence, result: ProbeResult) -> list[str]:
    """Contradictions to its declaration or to the protocol: one line each, to follow "it"."""
    sentences = []
    if wrong := misshapen(defence, result.k, result.shape):
        sentences.append(wrong)
    if result.unanswered > UNANSWERED:
        sentences.append(
            f"answers {result.unanswered:.0%} of clean inputs with NaN or infinite logits, and at most "
            f"{UNANSWERED:.0%} may be errors"
        )
    if sentences:
        return sentences
    if result.moved(result.same_draw) and defence.name == STANDARD:
        return [f"answers the same input differently when asked again, by {result.same_draw:.2g}{_UNSEEDED}"]
    if result.moved(result.same_draw):
        sentences.append(
            f"gives different logits for the same input and draw: they changed by {result.same_draw:.2g}"
        )
    elif result.moved(result.global_state):
        sentences.append(
            "depends on the global random generators beside its draw: reseeding them changed logits by "
            f"{result.global_state:.2g}"
        )
    if not defence.randomised and result.randomised:
        sentences.append(
            f"is declared not randomised, but another draw changed logits by {result.other_draws:.2g}"
        )
    alone = (
        _TAKEN
        if "batch_dependent" in getattr(defence, "undeclared", ())
        else "is declared batch-independent, but"
    )
    mend = _DECLARE + (_OR_DRAW if defence.randomised else "")
    if not defence.batch_dependent and result.batch_dependent:
        sentences.append(f"is declared batch-independent, but {_dependence(result)}{mend}")
    elif (
        not defence.batch_dependent
        and result.other_size is not None
        and result.moved(result.other_size, ROUNDING_ACROSS_SIZES)
    ):
        sentences.append(f"{alone} another batch size changed logits by {result.other_size:.2g}{mend}")
    elif (
        not defence.batch_dependent
        and result.other_slot is not None
        and result.moved(result.other_slot, ROUNDING_ACROSS_SIZES)
    ):
        sentences.append(
            f"{alone} moving the inputs to other positions in the batch changed their logits by "
            f"{result.other_slot:.2g}{mend}"
        )
    if result.grouped is not None and result.moved(result.grouped, ROUNDING_ACROSS_SIZES):
        sentences.append(
            f"answers batches in a group (logits_grouped) otherwise than alone, by {result.grouped:.2g}"
        )
    return sentences


def warnings(defence: Defence, result: ProbeResult) -> list[str]:
    """Allowed properties that may mislead an evaluation, one line each."""
    sentences = []
    if result.unanswered:
        sentences.append(
            f"it answers {result.unanswered:.1%} of clean inputs with NaN or infinite logits, which count as "
            "errors"
        )
    if result.zero_gradients and not result.no_gradient:
        sentences.append(f"the cross-entropy gradient is zero at {result.zero_gradients:.0%} of inputs")
    if result.nan_gradients:
        sentences.append(f"gradients are NaN or infinite at {result.nan_gradients:.0%} of inputs")
    if result.training_layers:
        names = ", ".join(result.training_layers[:3])
        more = f" and {len(result.training_layers) - 3} more" if len(result.training_layers) > 3 else ""
        sentences.append(f"layers in training mode: {names}{more}")
    if result.other_size_error:
        sentences.append(f"cannot answer {result.k // 2} inputs: {result.other_size_error}")
    if defence.randomised and not result.randomised:
        open_ = "randomised" in getattr(defence, "undeclared", ())
        claim = "draws random numbers" if open_ else "is declared randomised"
        sentences.append(f"{claim}, but {DRAWS} draws gave the same answers")
    if defence.batch_dependent and not result.batch_dependent:
        sentences.append("is declared batch-dependent, but no logits changed with the co-batched inputs")
    return sentences


def _dependence(result: ProbeResult) -> str:
    if result.moved(result.co_batched):
        change = f"{result.co_batched:.2g} ({result.co_batched_by})"
        return f"changing one co-batched input changed logits by {change}"
    if result.moved(result.all_co_batched):
        return f"changing the co-batched inputs changed logits by {result.all_co_batched:.2g}"
    return f"answers have {result.cross_gradient:.2g} of their gradient in co-batched inputs"


def unanswering_base(defence: Defence, x: Tensor, logits: int) -> list[str]:
    """The fault of a defence's base model, if any: one clause at most, to follow "it".

    Attacks through the base model need its answers to the defence's inputs, and their gradients.

    Args:
        x: images [k, C, H, W] in [0, 1].
        logits: how many the defence answers for each input.
    """
    if defence.base is None:
        return []
    classes, adjective = logits - (reject_class(defence) is not None), ""
    leaf = x.clone().requires_grad_()
    try:
        with torch.enable_grad():
            answer = defence.base(leaf.view_as(leaf))
            adjective = "perturbed "
            sign = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)).to(x).sub(0.5).sign()
            for moved in (x + 0.03 * sign, 1 - x):  # as attacks make them: off the data's levels, and far
                defence.base(moved.clamp(0, 1))
        shape = tuple(answer.shape)
    except (Exception, SystemExit) as error:  # user code can fail in any way
        raise_machine_fault(error)
        where = f"a {adjective}batch of shape {tuple(x.shape)}"
        return [f"names a base model that fails on {where}: {described(error)}"]
    if shape == (len(x), classes):
        lost = "names a base model whose answers have no gradient, which attacks take; let base be None"
        return [] if answer.requires_grad else [lost]
    return [f"names a base model that answers {len(x)} inputs with shape {shape}, not {(len(x), classes)}"]
