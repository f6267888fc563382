"""Candidates beside their batch-norms: by labelled images, by a refitted last layer, and under PGD, where
it may matter which is right.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor, nn

from attacks.losses import margin_loss
from attacks.perturbation_budget import PerturbationBudget
from robustbench_coded.models.candidates import Assembly, Candidate, Evidence
from robustbench_coded.models.fingerprint import watched
from robustbench_coded.models.labelled_accuracy import BATCH, LABELS_CONTRADICT, labelled
from robustbench_coded.models.normalisation import Normalisation
from robustbench_coded.models.registry import split_variant, unchanged

IMAGES_FOR_LABELS_ALONE = 10_000  # where no batch-norm remembers anything

# Of many candidates, each is asked so many images, or as few as that; the best go on to more.
SCREENED = 64
FEWEST_SCREENED = 16
BEST = 6
FEWER = 4  # as many candidates on so many times more images, again and again
MANY_MULTIPLICATIONS = 100e9  # for all of them; where that is too little, none is asked

# Parts that decide which pixels a layer sees. One after the other, a wrong layout would make up for a wrong
# pooling; and with another activation a wrong layout has nothing to make up for, so there are two rounds.
IN_SPACE = ("layout", "pooling")
ROUNDS = 2

CROSSED = 3  # architectures that are asked with every normalisation in common use


def asked(assembly: Assembly, one: Evidence, labels: Tensor, count: int) -> Evidence:
    """The same with what labelled images say of it; where they alone decide, in float32."""
    if one.labelled is not None and one.labelled.examples >= min(count, len(assembly.images)):
        return one
    images = assembly.images[:count].to(assembly.device)
    # Networks that sample draw the same for every candidate, whatever was asked before.
    torch.manual_seed(0 if one.labelled is None else one.labelled.examples)
    with assembly.bfloat16() if one.fingerprint is not None else nullcontext():
        found = labelled(assembly.answers(one.candidate), images, labels[: len(images)], before=one.labelled)
    return replace(one, labelled=found)


def forms_of(assembly: Assembly, one: Evidence, part: str) -> list[Evidence]:
    """The same candidate with that part in its other forms, as far as there are such networks."""
    own = one.candidate.arch
    archs = [arch for arch in (unchanged(own, part), *assembly.forms(own, part)) if arch != own]
    return [replace(one, candidate=replace(one.candidate, arch=arch), labelled=None) for arch in archs]


def variants(assembly: Assembly, arch: str, parts: Sequence[str]) -> list[str]:
    """``arch`` with every combination of the forms of these parts, as far as they exist."""
    archs = [arch]
    for part in parts:
        archs = [one for arch in archs for one in (unchanged(arch, part), *assembly.forms(arch, part))]
    return list(dict.fromkeys(archs))


def best_by_labels(
    assembly: Assembly,
    arch: str,
    common: Sequence[Normalisation],
    rare: Sequence[Normalisation],
    labels: Tensor,
    *,
    count: int,
    cost: int,
) -> list[Evidence]:
    """The forms of a network that may come into question, each asked about ``count`` images.

    Args:
        arch: the variant to begin with; it is among them, with every common normalisation.
        common: normalisations in common use for such images.
        rare: those of other data sets.
        labels: of the images, and perhaps more.
        cost: multiplications for one image.
    """
    affordable = MANY_MULTIPLICATIONS / cost
    own = [Evidence(Candidate(arch, one)) for one in common]
    best = _screened(assembly, own, labels, affordable) or own
    space = [part for part in IN_SPACE if part in assembly.variants]
    others = [part for part in assembly.variants if part not in space]
    for _ in range(ROUNDS if assembly.variants else 0):
        before = best[0].candidate
        for parts, normalisations in ((space, [before.normalisation]), (others, common)):
            archs = variants(assembly, best[0].candidate.arch, parts) if parts else []
            tried = [Evidence(Candidate(*one)) for one in product(archs, normalisations)]
            best = _best([*best, *_screened(assembly, tried, labels, affordable)])
        if best[0].candidate == before:
            break
    # Where several parts are unusual, one of them may be so by a little chance alone.
    tops = list(dict.fromkeys(one.candidate.arch for one in best))[:CROSSED]
    simpler = [unchanged(top, part) for top in tops for part in split_variant(top)[1]]
    archs = list(dict.fromkeys([arch, *simpler, *tops]))
    found = [Evidence(Candidate(*one)) for one in product(archs, common)]
    found += [Evidence(Candidate(*one), rare=1) for one in product(archs, rare)]
    known = {one.candidate: one for one in best}
    return [asked(assembly, known.get(one.candidate, one), labels, count) for one in found]


def _screened(
    assembly: Assembly, tried: Sequence[Evidence], labels: Tensor, affordable: float
) -> list[Evidence]:
    """The best few of many candidates by the first images, best first.

    Args:
        affordable: images in all, over every candidate; where they are too few, none is asked.
    """
    left = list(tried)
    images = min(SCREENED, int(affordable / len(left))) if left else 0
    if images < FEWEST_SCREENED:
        return []
    while True:
        left = _best([asked(assembly, one, labels, images) for one in left], len(left))
        if images >= SCREENED * FEWER or images * FEWER > len(assembly.images):
            return left[:BEST]
        left, images = left[: max(BEST, len(left) // FEWER)], images * FEWER


def _best(found: Sequence[Evidence], most: int = BEST) -> list[Evidence]:
    """Those that explain the labels best, each once."""
    ordered = sorted(found, key=lambda one: one.labelled.cross_entropy if one.labelled else float("inf"))
    return list({one.candidate: one for one in reversed(ordered)}.values())[::-1][:most]


# Another last layer has to make at most so many of the errors, be right on so many more of all images, and
# that by LABELS_CONTRADICT standard errors (McNemar). Right networks that were trained for too short a time
# keep 46% of their errors or more; see docs/recognition.md.
ERRORS_LEFT = 1 / 3
MORE_RIGHT = 0.05

REFIT_IMAGES = 2048
FEWEST_OF_A_CLASS = 20  # on average; with fewer the other layer cannot be fitted
RIDGE = 0.01  # beside the second moments of features of deviation 1


def unread_features(
    network: nn.Module,
    answers: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    *,
    classes: int,
) -> tuple[str, ...]:
    """That another last layer answers far more images rightly: a clause that ends in what to try, or none.

    Args:
        network: has the last layer.
        answers: from pixels to its logits.
        images: [n, C, H, W] in [0, 1]; at most IMAGES of them are looked at.
        labels: int64, of these images and perhaps more.
    """
    images = images[:REFIT_IMAGES]
    labels = labels[: len(images)].cpu()
    if len(images) < FEWEST_OF_A_CLASS * classes:
        return ()
    seen = _last_features(network, answers, images, classes)
    if seen is None:
        return ()
    features, logits = seen
    own = logits.argmax(1) == labels
    right = float(own.cpu().double().mean())
    if right + MORE_RIGHT > 1:
        return ()
    other = _refitted(features, labels, classes) == labels
    more = float(other.cpu().double().mean())
    gained, lost = int((other & ~own).sum()), int((own & ~other).sum())
    clear = gained - lost >= LABELS_CONTRADICT * (gained + lost) ** 0.5
    if not clear or more < right + MORE_RIGHT or 1 - more > ERRORS_LEFT * (1 - right):
        return ()
    return (
        f"its last layer does not read its features: of {len(images)} labelled images {right:.1%} are right, "
        f"and {more:.1%} would be with a last layer fitted to the others of them. A part before it, as a "
        "connection around layers, differs from training; try --arch package.module:function with its "
        "authors' network",
    )


@torch.no_grad()
def _last_features(
    network: nn.Module, answers: Callable[[Tensor], Tensor], images: Tensor, classes: int
) -> tuple[Tensor, Tensor] | None:
    """[n, width] float64 what the last linear layer takes, and the logits; None where there is none."""
    calls: list[tuple[nn.Module, Tensor]] = []

    def called(module: nn.Module, x: Tensor, output: Tensor) -> None:
        calls.append((module, x))

    features, logits = [], []
    with watched((one for one in network.modules() if isinstance(one, nn.Linear)), called):
        for batch in images.split(BATCH):
            calls.clear()
            answered = answers(batch)
            # A model may answer a batch in pieces.
            taken = [inputs for module, inputs in calls if module is calls[-1][0]]
            if not taken or calls[-1][0].out_features != classes or sum(map(len, taken)) != len(answered):
                return None
            features.append(torch.cat(taken).cpu().double())
            logits.append(answered.cpu().double())
    return torch.cat(features), torch.cat(logits)


def _refitted(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """[n] answers to each half of the images by ridge regression on the other half."""
    scaled = (features - features.mean(0)) / (features.std(0) + 1e-6)
    scaled = torch.cat([scaled, torch.ones(len(scaled), 1).double()], 1).nan_to_num()
    targets = nn.functional.one_hot(labels, classes).double()
    found = torch.empty_like(labels)
    even = torch.arange(len(labels)) % 2 == 0
    for fitted, asked in ((even, ~even), (~even, even)):
        known = scaled[fitted]
        moments = known.T @ known + RIDGE * len(known) * torch.eye(known.shape[1]).double()
        found[asked] = (scaled[asked] @ torch.linalg.solve(moments, known.T @ targets[fitted])).argmax(1)
    return found


PGD_STEPS = 10
MARGIN = 0.03  # of robust accuracy, in which forms may differ: the one of verdicts
ATTACKED_IMAGES = (64, 512)  # as few and as many as are attacked
ATTACK_MULTIPLICATIONS = 200e9  # of all forms: a step is a forward pass and a backward pass of twice its cost

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
    different = [one for one in forms if one is forms[0] or not _same_answers(one, forms[0])]
    if len(different) < 2:
        return []
    radii = len(budgets(forms[0].candidate.normalisation.std))
    affordable = int(ATTACK_MULTIPLICATIONS / (len(different) * radii * 3 * PGD_STEPS * cost))
    count = min(max(ATTACKED_IMAGES[0], min(ATTACKED_IMAGES[1], affordable)), len(assembly.images))
    x, y = assembly.images[:count].to(assembly.device), labels[:count].to(assembly.device)
    return [
        Attacked(
            one,
            _robust_accuracy(assembly.answers(one.candidate), x, y, budget),
            budget,
            count,
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


def _same_answers(one: Evidence, other: Evidence) -> bool:
    if one.labelled is None or other.labelled is None:
        return False
    ours, theirs = (each.labelled.logits for each in (one, other) if each.labelled is not None)
    ours, theirs = ours[: len(theirs)], theirs[: len(ours)]
    near = float((ours - theirs).abs().mean()) <= SAME_LOGITS * float(theirs.abs().mean())
    return near and one.labelled.agreement(other.labelled) >= SAME_ANSWERS


def _robust_accuracy(
    model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, budget: PerturbationBudget
) -> float:
    """The share of images that are answered rightly at every step of PGD from the clean image."""
    right = 0
    for clean, classes in zip(x.split(BATCH), y.split(BATCH), strict=True):
        ball, adv = budget.around(clean[None]), clean.clone()
        standing = torch.ones(len(clean), dtype=torch.bool, device=clean.device)
        for step in range(PGD_STEPS + 1):
            adv = adv.detach().requires_grad_()
            with torch.enable_grad():
                # Not the cross-entropy: its gradient vanishes where a wrong form makes logits large.
                loss = margin_loss(model(adv), classes)
                standing &= loss < 0
                if step == PGD_STEPS or not bool(standing.any()):
                    break
                (gradient,) = torch.autograd.grad(loss.sum(), adv)
            adv = ball.step_(adv.detach()[None], gradient[None], budget.eps / 4)[0]
        right += int(standing.sum())
    return right / len(x)
