"""Does the base model that a defence names answer the same inputs, with the same classes and a gradient?"""

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
    classes = logits - (reject_class(defence) is not None)
    leaf = x.clone().requires_grad_()
    try:
        with torch.enable_grad():
            answer = defence.base(leaf.view_as(leaf))
        shape = tuple(answer.shape)
    except Exception as error:  # somebody else's code can fail in any way
        return [f"names a base model that fails on a batch of shape {tuple(x.shape)}: {described(error)}"]
    if shape == (len(x), classes):
        lost = "names a base model whose answers have no gradient, which attacks take; let base be None"
        return [] if answer.requires_grad else [lost]
    return [f"names a base model that answers {len(x)} inputs with shape {shape}, not {(len(x), classes)}"]
