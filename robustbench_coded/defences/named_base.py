"""Does the base model that a defence names answer the same inputs, with the same classes and a gradient?"""

from collections.abc import Iterator

import torch
from torch import Tensor

from robustbench_coded.defences.protocol import Defence, reject_class
from robustbench_coded.errors import described


def unanswering_base(defence: Defence, x: Tensor, logits: int) -> list[str]:
    """What is wrong with a defence's base model, if anything: one clause at most, to follow "it".

    Attacks through the base model need its answers to the defence's inputs, and their gradients.

    Args:
        x: images [k, C, H, W] in [0, 1].
        logits: how many the defence answers for each input.
    """
    if defence.base is None:
        return []
    classes, asked = logits - (reject_class(defence) is not None), ""
    leaf = x.clone().requires_grad_()
    try:
        with torch.enable_grad():
            answer = defence.base(leaf.view_as(leaf))
            asked = "perturbed "
            for moved in _moved(x):
                defence.base(moved)
        shape = tuple(answer.shape)
    except (Exception, SystemExit) as error:  # user code can fail in any way
        where = f"a {asked}batch of shape {tuple(x.shape)}"
        return [f"names a base model that fails on {where}: {described(error)}"]
    if shape == (len(x), classes):
        lost = "names a base model whose answers have no gradient, which attacks take; let base be None"
        return [] if answer.requires_grad else [lost]
    return [f"names a base model that answers {len(x)} inputs with shape {shape}, not {(len(x), classes)}"]


def _moved(x: Tensor) -> Iterator[Tensor]:
    """Inputs as attacks make them: moved a little, off the levels of the data, and far."""
    sign = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)).to(x).sub(0.5).sign()
    for size in (0.001, 0.03, 0.3):
        yield (x + size * sign).clamp(0, 1)
    yield 1 - x
