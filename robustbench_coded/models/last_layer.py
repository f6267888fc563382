"""Whether a network's last layer reads its features: where it does not, something before it is wrong.

Training fits the last layer to the features that it gets. Without batch-norms nothing else remembers what
these were: a skipped connection leaves features that still tell the classes apart, and a last layer that no
longer reads them. Another linear layer, fitted to a part of the labelled images, then answers the others far
better; in a network that is put together as it was trained it gains next to nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

# Another last layer has to make at most so many of the errors, be right on so many more of all images, and
# that by so many standard errors (McNemar). Right networks that were trained for too short a time keep 46% of
# their errors or more; see docs/recognition.md.
ERRORS_LEFT = 1 / 3
MORE_RIGHT = 0.05
STANDARD_ERRORS = 4.0

IMAGES = 2048
FEWEST_OF_A_CLASS = 20  # on average; with fewer the other layer cannot be fitted
RIDGE = 0.01  # beside the second moments of features of deviation 1


def unread_features(
    network: nn.Module,
    answers: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    *,
    classes: int,
    at_once: int,
) -> tuple[str, ...]:
    """That another last layer answers far more images rightly: a clause that ends in what to try, or none.

    Args:
        network: has the last layer.
        answers: from pixels to its logits.
        images: [n, C, H, W] in [0, 1]; at most IMAGES of them are looked at.
        labels: int64, of these images and perhaps more.
    """
    images = images[:IMAGES]
    labels = labels[: len(images)].cpu()
    if len(images) < FEWEST_OF_A_CLASS * classes:
        return ()
    seen = _features(network, answers, images, classes, at_once)
    if seen is None:
        return ()
    features, logits = seen
    own = logits.argmax(1) == labels
    right = float(own.double().mean())
    if right + MORE_RIGHT > 1:
        return ()
    other = _refitted(features, labels, classes) == labels
    more = float(other.double().mean())
    gained, lost = int((other & ~own).sum()), int((own & ~other).sum())
    clear = gained - lost >= STANDARD_ERRORS * (gained + lost) ** 0.5
    if not clear or more < right + MORE_RIGHT or 1 - more > ERRORS_LEFT * (1 - right):
        return ()
    return (
        f"its last layer does not read its features: of {len(images)} labelled images {right:.1%} are right, "
        f"and {more:.1%} would be with a last layer fitted to the others of them. A part before it, as a "
        "connection around layers, differs from training; try --arch package.module:function with its "
        "authors' network",
    )


@torch.no_grad()
def _features(
    network: nn.Module, answers: Callable[[Tensor], Tensor], images: Tensor, classes: int, at_once: int
) -> tuple[Tensor, Tensor] | None:
    """[n, width] float64 what the last linear layer takes, and the logits; None where there is none."""
    calls: list[tuple[nn.Module, Tensor]] = []

    def called(module: nn.Module, inputs: Sequence[Any], output: Tensor) -> None:
        calls.append((module, inputs[0]))

    handles = [one.register_forward_hook(called) for one in network.modules() if isinstance(one, nn.Linear)]
    features, logits = [], []
    try:
        for batch in images.split(at_once):
            calls.clear()
            answered = answers(batch)
            # A model may answer a batch in pieces.
            taken = [inputs for module, inputs in calls if module is calls[-1][0]]
            if not taken or calls[-1][0].out_features != classes or sum(map(len, taken)) != len(answered):
                return None
            features.append(torch.cat(taken).double().cpu())
            logits.append(answered.double().cpu())
    finally:
        for handle in handles:
            handle.remove()
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
