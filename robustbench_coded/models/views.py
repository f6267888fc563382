"""Images laid out otherwise than in training: what no batch-norm sees where training turned images, too.

Batch-norms remember mirrored images as they do others, and networks without batch-norms remember none. But a
network that was trained on transposed images, as MATLAB's files hold them, or on white instead of black
paper, answers those far better.
"""

from collections.abc import Callable, Sequence
from itertools import product

from torch import Tensor

from robustbench_coded.models.architectures.inputs import channels_reversed
from robustbench_coded.models.witnesses import Labelled, labelled

View = Callable[[Tensor], Tensor]

# Of x [n, C, H, W] in [0, 1]: what batch-norms may not see, and what they do.
_TURNED: dict[str, View] = {
    "transposed": lambda x: x.mT,
    "mirrored": lambda x: x.flip(3),
    "upside down": lambda x: x.flip(2),
}
_RECOLOURED: dict[str, View] = {"inverted (1 - x)": lambda x: 1 - x}

FIRST = 16  # images, on which a view has to be answered better for the others to be asked


# So many standard errors of the cross-entropy, image by image, and more right answers.
BETTER = 5.0


def better_view(
    models: Sequence[Callable[[Tensor], Tensor]],
    images: Tensor,
    labels: Tensor,
    own: Labelled,
    *,
    turned: bool = False,
) -> tuple[str, ...]:
    """That images laid out otherwise are answered far better: a clause that ends in what to try, or none.

    Args:
        models: assemblies that come into question, pixels to logits.
        images: [n, C, H, W] in [0, 1].
        labels: int64, of these images and perhaps more.
        own: what these images, and perhaps more, have shown of the chosen one as they are.
        turned: only turned images, where batch-norms saw that colours are right.
    """
    count = len(images)
    rightly = own.logits[:count].argmax(1) == labels[:count].cpu()
    right, at_first = int(rightly.sum()), int(rightly[:FIRST].sum())
    found = []
    for (name, view), model in product(_views(images.shape[1], turned).items(), models):
        other = labelled(model, view(images[:FIRST]), labels[:FIRST])
        if other.right <= at_first:
            continue
        other = labelled(model, view(images), labels[:count], before=other)
        if other.right > right and own.worse_than(other) >= BETTER:
            found.append((other.right, name))
    if not found:
        return ()
    better, name = max(found)
    return (
        f"of {count} labelled images it answers {right / count:.1%} rightly, {name} {better / count:.1%}: "
        "its training laid out images otherwise; try --data with such images",
    )


def _views(channels: int, turned: bool) -> dict[str, View]:
    if turned:
        return _TURNED
    reversed_ = {"with channels reversed": channels_reversed} if channels == 3 else {}
    return _TURNED | _RECOLOURED | reversed_
