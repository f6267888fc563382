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
_ACROSS_SIZES = ("other_size", "other_slot", "grouped")
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
        return self.moved("other_draws")

    @property
    def batch_dependent(self) -> bool:
        """True if some answer followed its co-batched inputs."""
        return any(map(self.moved, ("co_batched", "all_co_batched", "cross_gradient")))

    def moved(self, figure: str) -> bool:
        """True if a change of this name was measured, and is more than rounding."""
        change = getattr(self, figure)
        if figure == "cross_gradient":  # a share
            return change > ROUNDING
        rounding = ROUNDING_ACROSS_SIZES if figure in _ACROSS_SIZES else ROUNDING
        # NaN compares false with everything; it must count as a change.
        return change is not None and not change <= rounding * self.scale


_OR_DRAW = (
    ", or let an input use the same random numbers whatever the others are (torch.poisson and torch.binomial "
    "take more or fewer)"
)


def contradictions(defence: Defence, result: ProbeResult) -> list[str]:
    """Contradictions to its declaration or to the protocol: one line each, to follow "it"."""
    sentences = [wrong] if (wrong := misshapen(defence, result.k, result.shape)) else []
    if result.unanswered > UNANSWERED:
        sentences.append(
            f"answers {result.unanswered:.0%} of clean inputs with NaN or infinite logits, and at most "
            f"{UNANSWERED:.0%} may be errors"
        )
    if sentences:
        return sentences
    if result.moved("same_draw") and defence.name == STANDARD:
        return [f"answers the same input differently when asked again, by {result.same_draw:.2g}{_UNSEEDED}"]
    declared = alone = "is declared batch-independent, but"
    if "batch_dependent" in getattr(defence, "undeclared", ()):
        alone = "seems to classify inputs independently of the others in the batch, but"
    mend = "; set batch_dependent = True" + (_OR_DRAW if defence.randomised else "")
    # Figures that may not move, by what the defence declares: of each group the first is said.
    again = {
        "same_draw": "gives different logits for the same input and draw: they changed by {:.2g}",
        "global_state": "depends on the global random generators beside its draw: reseeding them changed "
        "logits by {:.2g}",
    }
    other_draw = {"other_draws": "is declared not randomised, but another draw changed logits by {:.2g}"}
    others = {
        "co_batched": f"{declared} changing one co-batched input changed logits by {{:.2g}} "
        f"({result.co_batched_by}){mend}",
        "all_co_batched": f"{declared} changing the co-batched inputs changed logits by {{:.2g}}{mend}",
        "cross_gradient": f"{declared} answers have {{:.2g}} of their gradient in co-batched inputs{mend}",
        "other_size": f"{alone} another batch size changed logits by {{:.2g}}{mend}",
        "other_slot": f"{alone} moving the inputs to other positions in the batch changed their logits by "
        f"{{:.2g}}{mend}",
    }
    grouped = {"grouped": "answers batches in a group (logits_grouped) otherwise than alone, by {:.2g}"}
    groups = (
        again,
        {} if defence.randomised else other_draw,
        {} if defence.batch_dependent else others,
        grouped,
    )
    for group in groups:
        if moved := next(filter(result.moved, group), None):
            sentences.append(group[moved].format(getattr(result, moved)))
    return sentences


def warnings(defence: Defence, result: ProbeResult) -> list[str]:
    """Allowed properties that may mislead an evaluation, one line each."""
    names = ", ".join(result.training_layers[:3])
    more = f" and {len(result.training_layers) - 3} more" if len(result.training_layers) > 3 else ""
    undeclared = "randomised" in getattr(defence, "undeclared", ())
    claim = "draws random numbers" if undeclared else "is declared randomised"
    found = {
        f"it answers {result.unanswered:.1%} of clean inputs with NaN or infinite logits, which count as "
        "errors": result.unanswered,
        f"the cross-entropy gradient is zero at {result.zero_gradients:.0%} of inputs": result.zero_gradients
        and not result.no_gradient,
        f"gradients are NaN or infinite at {result.nan_gradients:.0%} of inputs": result.nan_gradients,
        f"layers in training mode: {names}{more}": names,
        f"cannot answer {result.k // 2} inputs: {result.other_size_error}": result.other_size_error,
        f"{claim}, but {DRAWS} draws gave the same answers": defence.randomised and not result.randomised,
        "is declared batch-dependent, but no logits changed with the co-batched inputs": (
            defence.batch_dependent and not result.batch_dependent
        ),
    }
    return [sentence for sentence, holds in found.items() if holds]


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
