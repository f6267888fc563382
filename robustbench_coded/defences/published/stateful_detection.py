"""Stateful detection: rejects queries that lie close to earlier ones (arXiv 1907.05587)."""

import torch
from torch import Tensor, nn

from robustbench_coded.defences.published.kinds import Deterministic
from robustbench_coded.defences.published.record import Record

RECORD = Record(
    title="Stateful Detection of Black-Box Adversarial Attacks",
    arxiv="1907.05587",
    section="4",
    year=2019,
    random="",
    coupling="queries of a batch are compared with those before them",
    claim="black-box attacks are detected by their queries; none about attackers who know the weights",
    setting="distances of pixels to the nearest query; the memory is emptied before every batch",
    breaks=(("2303.06280", "attacks that adapt their steps and queries evade it"),),
)
REJECTED = 0.001  # of pairs of clean images are closer than the threshold


class StatefulDetection(Deterministic):
    """Rejects an input that is closer to an earlier query than clean images are to each other."""

    batch_dependent = True

    def __init__(self, model: nn.Module, pool: Tensor):
        self.base = model
        self.model = model
        apart = torch.cdist(pool.flatten(1), pool.flatten(1))
        pairs = apart[*torch.triu_indices(len(pool), len(pool), 1)]
        self.threshold = float(pairs.quantile(REJECTED))
        with torch.no_grad():
            self.abstain = model(pool[:1]).shape[-1]
        self.reset()

    def reset(self) -> None:
        """Forgets every query."""
        self.seen: Tensor | None = None

    def logits(self, x: Tensor, draw: None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes + 1]; the last rejects."""
        answers = self.model(x)
        queries = x.flatten(1)
        earlier = queries if self.seen is None else torch.cat([self.seen.to(x), queries])
        distance = (queries.unsqueeze(1) - earlier).square().sum(-1).add(1e-12).sqrt()
        before = torch.arange(len(earlier)) < torch.arange(len(earlier) - len(x), len(earlier))[:, None]
        nearest = distance.where(before.to(x.device), torch.inf).amin(1)
        self.seen = earlier.detach()
        closeness = (self.threshold - nearest).clamp(min=-self.threshold - 1)
        reject = answers.amax(-1) + 10 * closeness
        return torch.cat([answers, reject.unsqueeze(-1)], dim=-1)


def build(model: nn.Module, pool: Tensor) -> StatefulDetection:
    return StatefulDetection(model, pool)
