"""TENT: batch-norms are fitted to the unlabelled batch by minimising entropy (arXiv 2006.10726)."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from robustbench_coded.defences.published.batch_statistics import norms_of, with_batch_statistics
from robustbench_coded.defences.published.kinds import Deterministic
from robustbench_coded.defences.published.record import Record

RECORD = Record(
    title="Tent: Fully Test-Time Adaptation by Entropy Minimization",
    arxiv="2006.10726",
    section="3",
    year=2021,
    random="",
    coupling="statistics and affine parameters of every batch-norm are fitted to the batch",
    claim="lower error under corruptions of CIFAR-10, CIFAR-100 and ImageNet; none about adversaries",
    setting="one step of descent at 0.001 for each batch, from the checkpoint's own parameters",
    breaks=(("2301.12576", "malicious co-batched inputs change the answers to others"),),
)
STEP = 1e-3


class Tent(Deterministic):
    """Before each batch, scales and shifts of batch-norms take a step down the mean entropy of its answers.

    The step is differentiable: an attacker who changes the batch sees how the parameters follow.
    """

    batch_dependent = True

    def __init__(self, model: nn.Module):
        self.base = model
        self.adapted = with_batch_statistics(model)
        self.reset()

    def images(self, k: int) -> int:
        """Images through the network for a batch of ``k``: the step, and the answer."""
        return 2 * k

    def reset(self) -> None:
        """Forgets every batch."""
        self.fitted: dict[str, Tensor] = {}

    def fit(self, x: Tensor) -> None:
        """Takes the step for the batch ``x`` [k, C, H, W], which is answered next."""
        follows = torch.is_grad_enabled() and x.requires_grad
        with torch.inference_mode(False), torch.enable_grad():
            x = x if follows else x.detach().clone()
            start = {
                f"{name}.{part}": value.detach().clone().requires_grad_()
                for name, norm in norms_of(self.adapted).items()
                for part, value in norm.named_parameters(recurse=False)
            }
            log_p = functional_call(self.adapted, start, (x,)).log_softmax(-1)
            entropy = -(log_p.exp() * log_p).sum(-1).mean()
            slopes = torch.autograd.grad(entropy, list(start.values()), create_graph=follows)
            stepped = [value - STEP * slope for value, slope in zip(start.values(), slopes, strict=True)]
        self.fitted = dict(zip(start, stepped if follows else [value.detach() for value in stepped]))

    def logits(self, x: Tensor, draw: None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        return functional_call(self.adapted, self.fitted, (x,))


def build(model: nn.Module) -> Tent:
    return Tent(model)
