"""Images that no data set contains: means of two images of a class."""

from math import comb

import torch
from torch import Tensor

from robustbench_coded.evaluation.selftests.base_agrees import Network, margin_gradient
from robustbench_coded.evaluation.selftests.scene import (
    STEP,
    STEPS,
    Scene,
    SelfTest,
    Walk,
    judged,
    not_applicable,
    walk,
)


def blends(x: Tensor, y: Tensor, most: int, scale: float) -> tuple[Tensor, Tensor]:
    """Means of two images of one class, each image used once, at the levels of the data.

    A defence may have stored every image of a data set, but not these.

    Args:
        x: images [n, C, H, W] in [0, 1]. y: labels int64 [n].
        most: so many at most.
        scale: the pixel value that means 1.0 in the data; 1 for floats, which have no levels.

    Returns:
        images [m, C, H, W] and labels [m], in the order of their first parts.
    """
    waiting: dict[int, int] = {}
    pairs = []
    for i, label in enumerate(y.tolist()):
        if label in waiting:
            pairs.append((waiting.pop(label), i))
        else:
            waiting[label] = i
    chosen = torch.tensor(sorted(pairs)[:most], dtype=torch.int64, device=y.device).view(-1, 2)
    mean = (x[chosen[:, 0]] + x[chosen[:, 1]]) / 2
    return (mean * scale).round() / scale if scale > 1 else mean, y[chosen[:, 0]]


BESIDE = "answers beside clean inputs"
MOVE = 1 / 200  # of eps: less than any quantisation of images sees
JUMP = 0.25  # change of a logit, as a share of their spread, that counts as another answer
TOLERATED = 0.1  # share of inputs


def beside_clean(scene: Scene, path: Walk) -> SelfTest:
    """Fails where a random move of MOVE times eps changes the logits of more than TOLERATED of the inputs.

    A defence that tells images of a data set, multiples of 1/255, from all others meets attacks with other
    answers than those that it gives in use.
    """
    moved = (scene.x + MOVE * scene.budget.eps * scene.random_signs()).clamp(0, 1)
    before, after = (scene.answers(x, path.draws) for x in (scene.x, moved))
    spread = (before.amax(-1) - before.amin(-1)).clamp(min=torch.finfo(before.dtype).tiny)
    # NaN compares false with everything; it must count as a jump.
    still = (after - before).abs().amax(-1) <= JUMP * spread
    share = float((~still).cpu().double().mean())
    finding = f"A random move of eps/{1 / MOVE:g} changes the logits of {share:.1%} of the clean inputs."
    return judged(BESIDE, share <= TOLERATED, finding, jumps=share)


OTHER_IMAGES = "images not evaluated"
FEWEST = 16  # images of either kind that are classified correctly, for a share of them to mean anything
TOWARDS = 3  # images of other classes that each image is moved to
# Of Fisher's exact test: how often images of one kind stand so much more often than as many others like them.
CHANCE = 0.001
# The same for means of two images, which are a little less like them.
CHANCE_BLENDED = 0.0001
# Share of the means of two images that the checkpoint classifies correctly, for them to be like the data.
NATURAL = 0.9


def other_images(
    scene: Scene, other: Scene | None, network: Network | None, blended: Scene | None = None
) -> SelfTest:
    """Compares which share of the correctly classified images stands a short attack, here and elsewhere.

    Args:
        scene: evaluated images. other: images that are not evaluated, of the same kind; None where there are
            none.
        network: whose perturbed inputs are submitted, too; None where there is none.
        blended: means of two images of a class, which no data set contains; None where there are none. They
            are compared only where there is a ``network`` that classifies them like any images.
    """
    kinds: list[tuple[str, str, Scene, float]] = []
    if other is not None:
        kinds.append(("others", "others", other, CHANCE))
    if blended is not None and network is not None and _natural(blended, network):
        kinds.append(("blends", "means of two images of a class", blended, CHANCE_BLENDED))
    if not kinds:
        return not_applicable(OTHER_IMAGES, "All images are evaluated.")
    stood, n = _standing(scene, network)
    figures: dict[str, float] = {}
    passed, told, few = True, "", []
    for name, title, compared, chance in kinds:
        others_stood, others = _standing(compared, network)
        if min(n, others) < FEWEST:
            few.append(f"{others} of {title}")
            continue
        told += f", of {title} {others_stood / others:.0%} of {others}"
        figures[name] = others_stood / others
        passed = passed and _more_by_chance(stood, n, others_stood, others) >= chance
    if not figures:
        return not_applicable(
            OTHER_IMAGES, f"Too few are classified correctly: {n} evaluated, {', '.join(few)}."
        )
    finding = (
        f"Of the evaluated images that are classified correctly {stood / n:.0%} of {n} stand a short "
        f"attack{told}."
    )
    return judged(OTHER_IMAGES, passed, finding, evaluated=stood / n, **figures)


def _natural(scene: Scene, network: Network) -> bool:
    """Whether the network classifies nearly all of the images correctly."""
    x = scene.x.flatten(0, 1)
    with torch.no_grad():
        logits = network(x)
    return bool((logits.argmax(-1) == scene.y.flatten()).cpu().double().mean() >= NATURAL)


def _standing(scene: Scene, network: Network | None) -> tuple[int, int]:
    """How many images stand, and how many are classified correctly to begin with."""
    path = walk(scene)
    clean = scene.answers(scene.x, path.draws).argmax(-1) == scene.y
    stands = clean.clone()
    answers = list(path.logits)
    if network is not None:
        answers.append(scene.answers(_fooling(scene, network), path.draws))
    answers += [scene.answers(x, path.draws) for x in _towards_other_classes(scene)]
    for logits in answers:
        predicted = logits.argmax(-1)
        rejected = predicted == getattr(scene.oracle, "reject", None)
        stands &= (predicted == scene.y) | rejected
    return int(stands.sum()), int(clean.sum())


def _fooling(scene: Scene, network: Network) -> Tensor:
    """Inputs moved by the same steps along the margin of ``network``."""
    ball, at = scene.budget.around(scene.x), scene.x
    for _ in range(STEPS):
        grad = torch.nan_to_num(margin_gradient(scene, at, network))
        at = ball.step_(at.clone(), grad, STEP * scene.budget.eps)
    return at


def _towards_other_classes(scene: Scene) -> list[Tensor]:
    """Inputs moved as far as the budget allows to each of the nearest images of other classes.

    What fools a classifier that compares images, whose gradient may lead nowhere.
    """
    x, y, ball = scene.x.flatten(0, 1), scene.y.flatten(), scene.budget.around(scene.x)
    far = torch.cdist(x.flatten(1), x.flatten(1)).masked_fill(y[:, None] == y, torch.inf)
    nearest = far.topk(min(TOWARDS, len(x)), largest=False).indices
    return [ball.project_(x[chosen].view_as(scene.x)) for chosen in nearest.T]


def _more_by_chance(stood: int, n: int, others_stood: int, others: int) -> float:
    """Chance that at least ``stood`` of those that stand are among the first n, if n + others are alike."""
    standing, total = stood + others_stood, n + others
    ways = sum(comb(n, i) * comb(others, standing - i) for i in range(stood, min(n, standing) + 1))
    return ways / comb(total, standing)
