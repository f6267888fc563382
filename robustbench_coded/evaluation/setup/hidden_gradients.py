"""Whether a defence's operators hide its gradient: one forward and backward with the operators relaxed."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from attacks.gradients import gradient_or_zero, recorded
from attacks.oracle import fold_unanswered
from attacks.relaxation import Met, Relaxation
from robustbench_coded.defences.protocol import Defence, Draw
from robustbench_coded.evaluation.planning.streams import stream
from robustbench_coded.reports.text.formatting import hiding_text

# Share of inputs without a gradient from which on the relaxed one is tried, whatever was met.
ZERO_SHARE = 0.1
LARGEST = 16  # inputs asked about


@dataclass(frozen=True)
class HiddenGradients:
    """What was found on one batch.

    Attributes:
        operators: those that most of the gradient vanishes in, as plain data: operator, calls, cut, scale.
        without: why torch's own gradient does not exist, a clause; empty where it does.
        found: whether there is a gradient with the operators relaxed.
        figures: how usable that one is: ``zero_share``; ``cosine`` and ``sign`` between two draws.
    """

    operators: tuple[dict[str, Any], ...] = ()
    without: str = ""
    found: bool = True
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def differentiable(self) -> bool:
        """Whether torch's own gradient exists at all."""
        return not self.without

    @property
    def sentences(self) -> list[str]:
        """A clause for each operator, and one where nothing helps."""
        said = [f"{hiding_text(met)}; the relaxed- attacks smooth it" for met in self.operators]
        if self.without:
            said.append(f"{self.without}: attacks on torch's own gradients are left out")
        if not self.found:
            said.append(
                "with smooth operators there is no gradient either: attacks by queries and transfer are run, "
                "which find less than gradients would"
            )
        return said


def hidden_gradients(
    defence: Defence, x: Tensor, y: Tensor, seed: int, *, without: str = ""
) -> HiddenGradients:
    """Records what a defence's gradient passes through on x [k, C, H, W] with labels y [k].

    Args:
        without: why torch's own gradient does not exist, where it does not.
    """
    x, y = _batch(defence, x), _batch(defence, y)
    draws = [defence.sample(stream(seed, -1, "probe", i), len(x)) for i in (1, 2)]
    relaxation = Relaxation(measuring=True)
    grads = [_gradient(defence, x, y, draws[0], relaxation)]
    hiding: list[Met] = relaxation.record.hiding()
    if defence.randomised and (hiding or without):
        quiet = Relaxation()
        quiet.level = relaxation.level
        grads.append(_gradient(defence, x, y, draws[1], quiet))
    zero = [(grad == 0).all(1).float().mean().item() for grad in grads]
    figures = {"zero_share": zero[0]}
    if len(grads) == 2:
        figures["cosine"] = float(functional.cosine_similarity(grads[0], grads[1]).mean())
        figures["sign"] = float((grads[0].sign() == grads[1].sign()).float().mean())
    operators = tuple(met.plain() for met in hiding)
    return HiddenGradients(operators, without, zero[0] < 1, figures)


def _batch(defence: Defence, values: Tensor) -> Tensor:
    # A batch-dependent defence may take no other size.
    return values if defence.batch_dependent else values[:LARGEST]


def _gradient(defence: Defence, x: Tensor, y: Tensor, draw: Draw, relaxation: Relaxation) -> Tensor:
    """Of the cross-entropy, [k, pixels]; zero where there is none."""

    def asked(inside: bool) -> Tensor:
        leaf = x.clone().requires_grad_()
        with torch.enable_grad(), relaxation.forward():
            answer = recorded(lambda x: defence.logits(x, draw), leaf.clone())
            logits = fold_unanswered(relaxation.answered(answer, inside=inside), y)
            loss = functional.cross_entropy(logits, y, reduction="sum")
        return gradient_or_zero(loss, leaf, strict=not relaxation.given_up)

    grad = torch.nan_to_num(relaxation.attempt(lambda: asked(False))).flatten(1)
    if bool((grad == 0).all()) and relaxation.looks_inside:
        grad = torch.nan_to_num(relaxation.attempt(lambda: asked(True))).flatten(1)
    return grad
