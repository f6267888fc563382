"""Prediction-time batch normalisation: statistics of the batch that is answered (arXiv 2006.10963)."""

from torch import Tensor, nn

from robustbench_coded.defences.published.batch_statistics import with_batch_statistics
from robustbench_coded.defences.published.kinds import Deterministic
from robustbench_coded.defences.published.record import Record

RECORD = Record(
    title="Evaluating Prediction-Time Batch Normalization for Robustness under Covariate Shift",
    arxiv="2006.10963",
    section="2",
    year=2020,
    random="",
    coupling="means and variances of every batch-norm are those of the batch",
    claim="robustness under corruptions; the paper finds no gain under adversarial perturbations",
    setting="statistics of the batch alone, on the given network; one without batch-norms is refused",
    breaks=(("2301.12576", "malicious co-batched inputs change the answers to others"),),
)


class BatchNormAdaptation(Deterministic):
    """The network with batch-norms that use the batch's own statistics, as in training."""

    batch_dependent = True

    def __init__(self, model: nn.Module):
        self.base = model
        self.adapted = with_batch_statistics(model)

    def logits(self, x: Tensor, draw: None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        return self.adapted(x)


def build(model: nn.Module) -> BatchNormAdaptation:
    return BatchNormAdaptation(model)
