"""Randomised smoothing: a majority vote over noisy copies, with a certificate in l2 (arXiv 1902.02918)."""

from torch import Tensor, nn

from robustbench_coded.defences.noise import standard_normal
from robustbench_coded.defences.published.kinds import Seeded
from robustbench_coded.defences.published.record import Record

RECORD = Record(
    title="Certified Adversarial Robustness via Randomized Smoothing",
    arxiv="1902.02918",
    section="3",
    year=2019,
    random="Gaussian noise on every copy of every input",
    coupling="",
    claim="certified 49% on ImageNet at l2 0.5",
    setting="25 votes under noise of deviation 0.25, on the given network; it never abstains",
)
SIGMA, VOTES = 0.25, 25


class RandomisedSmoothing(Seeded):
    """Counts the classes of noisy copies. A count has no gradient; the mean probabilities lend theirs."""

    def __init__(self, model: nn.Module, sigma: float = SIGMA, votes: int = VOTES):
        self.base = model
        self.model = model
        self.sigma = sigma
        self.votes = votes

    def images(self, k: int) -> int:
        """Images through the network for a batch of ``k``."""
        return k * self.votes

    def logits(self, x: Tensor, draw: int) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]: ten times the shares of the votes."""
        noise = standard_normal(draw, (self.votes, *x.shape)).to(x)
        answers = self.model((x + self.sigma * noise).flatten(0, 1)).unflatten(0, noise.shape[:2])
        soft = answers.softmax(-1).mean(0)
        votes = nn.functional.one_hot(answers.argmax(-1), answers.shape[-1]).to(soft).mean(0)
        return 10 * (soft + (votes - soft).detach())


def build(model: nn.Module) -> RandomisedSmoothing:
    return RandomisedSmoothing(model)
