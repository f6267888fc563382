"""Plausible forms of a network under a cheap attack: whether it matters which of them is right.

Behind another normalisation a network may answer as many images rightly and lose its robustness, or seem to
gain some, because the same perturbation is larger or smaller in what it sees. Where no witness tells the
forms apart, they are attacked before one is taken.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.losses import margin_loss
from attacks.perturbation_budget import PerturbationBudget
from robustbench_coded.models.candidates import Assembly
from robustbench_coded.models.decision import Evidence

STEPS = 10
MARGIN = 0.03  # of robust accuracy, in which forms may differ: the one of verdicts
IMAGES = (64, 512)  # as few and as many as are attacked
MULTIPLICATIONS = 200e9  # of all forms: a step is a forward pass and a backward pass of twice its cost

# Forms whose answers and logits are so nearly the same are one network.
SAME_ANSWERS = 0.995
SAME_LOGITS = 0.02


@dataclass(frozen=True)
class Attacked:
    """A form under PGD.

    Attributes:
        form: which one.
        accuracy: on the attacked images.
        budget: of the attack.
        images: how many were attacked.
    """

    form: Evidence
    accuracy: float
    budget: PerturbationBudget
    images: int


def under_attack(
    assembly: Assembly,
    forms: Sequence[Evidence],
    labels: Tensor,
    budgets: Callable[[tuple[float, ...]], Sequence[PerturbationBudget]],
    *,
    cost: int,
) -> list[Attacked]:
    """Every form that differs from the first one, and that, under each budget.

    Args:
        labels: of the images, and perhaps more.
        budgets: from the deviations of a normalisation to the perturbation budgets.
        cost: multiplications for one image.
    """
    different = [one for one in forms if one is forms[0] or not _same(one, forms[0])]
    if len(different) < 2:
        return []
    radii = len(budgets(forms[0].candidate.normalisation.std))
    affordable = int(MULTIPLICATIONS / (len(different) * radii * 3 * STEPS * cost))
    count = min(max(IMAGES[0], min(IMAGES[1], affordable)), len(assembly.images))
    x, y = assembly.images[:count].to(assembly.device), labels[:count].to(assembly.device)
    return [
        Attacked(
            one, _accuracy(assembly.answers(one.candidate), x, y, budget, assembly.at_once), budget, count
        )
        for one in different
        for budget in budgets(one.candidate.normalisation.std)
    ]


def differ(attacked: Sequence[Attacked]) -> bool:
    """Whether forms differ by more than MARGIN under one of the budgets."""
    by_radius: dict[float, list[float]] = {}
    for one in attacked:
        by_radius.setdefault(one.budget.eps, []).append(one.accuracy)
    return any(max(found) - min(found) > MARGIN for found in by_radius.values())


def _same(one: Evidence, other: Evidence) -> bool:
    if one.labelled is None or other.labelled is None:
        return False
    ours, theirs = (each.labelled.logits for each in (one, other) if each.labelled is not None)
    ours, theirs = ours[: len(theirs)], theirs[: len(ours)]
    near = float((ours - theirs).abs().mean()) <= SAME_LOGITS * float(theirs.abs().mean())
    return near and one.labelled.agreement(other.labelled) >= SAME_ANSWERS


def _accuracy(
    model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, budget: PerturbationBudget, at_once: int
) -> float:
    """The share of images that are answered rightly at every step of PGD from the clean image."""
    right = 0
    for clean, classes in zip(x.split(at_once), y.split(at_once), strict=True):
        ball, adv = budget.around(clean[None]), clean.clone()
        standing = torch.ones(len(clean), dtype=torch.bool, device=clean.device)
        for step in range(STEPS + 1):
            adv = adv.detach().requires_grad_()
            with torch.enable_grad():
                # Not the cross-entropy: its gradient vanishes where a wrong form makes logits large.
                loss = margin_loss(model(adv), classes)
                standing &= loss < 0
                if step == STEPS or not bool(standing.any()):
                    break
                (gradient,) = torch.autograd.grad(loss.sum(), adv)
            adv = ball.step_(adv.detach()[None], gradient[None], budget.eps / 4)[0]
        right += int(standing.sum())
    return right / len(x)
