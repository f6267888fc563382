"""Chooses a normalisation where neither the user nor the file says one: by how well it explains the labels.

Accuracy is no guide: a wrong scale often changes few predictions, and on 512 images can even win. The
cross-entropy falls with the right scale, as that is the one at which the network's confidence was trained.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustbench_coded.models.normalisation import KNOWN, NormalisationChoice
from robustbench_coded.models.pixel_model import PixelModel

EXAMPLES = 512
BATCH = 128

# In nats; closer candidates are listed as not separable.
SEPARABLE = 0.02


def guess_normalisation(
    network: nn.Module, images: Tensor, labels: Tensor, *, classes: int, arch: str
) -> NormalisationChoice:
    """Tries every known normalisation on the first 512 labelled images.

    Args:
        network: takes normalised images, in eval mode.
        images: (n, channels, height, width) in [0, 1], 1 or 3 channels.
        labels: (n,) int64 in [0, classes).
        classes: number of classes.
        arch: name of the architecture.
    """
    images, labels = images[:EXAMPLES], labels[:EXAMPLES]
    known = KNOWN[images.shape[1]]
    scores = []
    for name, normalisation in known.items():
        model = PixelModel(network, normalisation.mean, normalisation.std, classes=classes, arch=arch)
        scores.append((name, *_score(model.to(images.device), images, labels)))
    scores.sort(key=lambda score: score[1])
    best, least, _ = scores[0]
    return NormalisationChoice(
        name=best,
        mean=known[best].mean,
        std=known[best].std,
        source="guessed",
        examples=len(images),
        candidates=tuple(scores),
        not_separable=tuple(name for name, loss, _ in scores[1:] if loss - least <= SEPARABLE),
    )


@torch.no_grad()
def _score(model: PixelModel, images: Tensor, labels: Tensor) -> tuple[float, float]:
    with torch.random.fork_rng():  # a network may sample: the same numbers for every candidate
        torch.manual_seed(0)
        logits = torch.cat([model(batch) for batch in images.split(BATCH)]).double()
    return F.cross_entropy(logits, labels).item(), (logits.argmax(1) == labels).double().mean().item()
