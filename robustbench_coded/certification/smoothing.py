"""Gaussian smoothing: how probable a right answer stays under l2 perturbations (arXiv 1902.02918).

A network that answers x + noise, noise normal with deviation sigma, is right with some probability p.
Whatever the network is, moving x by r in l2 leaves at least Phi(Phi^-1(p) - r / sigma) of it (theorem 1, by
the Neyman-Pearson lemma). p is not known, so noisy copies are counted: Clopper and Pearson's exact lower
bound holds with probability 1 - alpha for each of n examples, and with ``ALPHA`` / n each for all of them.
"""

import torch
from scipy.special import bdtrc, betaincinv
from torch import Tensor, nn
from torch.special import ndtr, ndtri

ALPHA = 1e-3  # that the bound of any example of a subject is too high
SAMPLES = 1_000  # noisy copies of each example
IMAGES = 512  # in one forward


@torch.no_grad()
def count_right(
    model: nn.Module, x: Tensor, y: Tensor, sigma: float, samples: int, generator: torch.Generator
) -> Tensor:
    """How many of ``samples`` noisy copies of each example the model answers rightly, int64 [n].

    Args:
        model: pixels -> logits. x: [n, C, H, W]; y: labels [n].
        generator: a CPU generator, so that the counts are the same on every device.
    """
    found = torch.zeros(len(x), dtype=torch.int64)
    together = max(1, IMAGES // len(x))
    for start in range(0, samples, together):
        copies = min(together, samples - start)
        noise = torch.randn(copies, *x.shape, generator=generator).to(x)
        answers = model((x + sigma * noise).flatten(0, 1)).argmax(-1).view(copies, -1)
        found += (answers == y).sum(0).cpu()
    return found


def probability(right: Tensor, samples: int, alpha: float) -> Tensor:
    """Exact lower bound on the probability of a right answer; wrong with probability alpha. float64 [n]."""
    counts = right.double().numpy()
    low = betaincinv(counts, samples - counts + 1, alpha)
    return torch.from_numpy(low).nan_to_num(0.0).where(right > 0, 0.0)


def moved(p: Tensor, radius: Tensor, sigma: float) -> Tensor:
    """What is left of probabilities p [n] after moves by at most ``radius`` [n] in l2."""
    return ndtr(ndtri(p) - radius.cpu() / sigma)


def majority(p: Tensor, votes: int) -> Tensor:
    """The probability that more than half of ``votes`` independent copies are right, each with p [n]."""
    return torch.from_numpy(bdtrc(votes // 2, votes, p.double().clamp(0, 1).numpy()))
