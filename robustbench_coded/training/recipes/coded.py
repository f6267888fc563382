"""Coded-smoothing training (arXiv 2510.00253, section 4): a coded path beside the original one."""

from dataclasses import dataclass
from functools import partial

from torch import Tensor
from torch.nn.functional import cross_entropy

from robustbench_coded.coding.codec import CodedSmoothing
from robustbench_coded.training.recipes.recipe import Moment
from robustbench_coded.training.stages import Stages


@dataclass(frozen=True)
class Coded:
    """(1 - mu) L_main + mu L_coded, equation 7.

    Attributes:
        mu: weight of the coded path, in [0, 1].
        n_start: coded inputs in the first epoch, in units of the batch size K.
        n_end: coded inputs in the last epoch (gamma of appendix E.1); equal to ``n_start`` for a fixed N.
        blocks: the target blocks; empty for all of them. Neighbouring blocks are encoded and decoded once.
        order: order of the splines: 1, 3 or 5.
        nodes: ``chebyshev`` or ``uniform`` points.
    """

    mu: float = 0.5
    n_start: float = 1.0
    n_end: float = 1.5
    blocks: tuple[int, ...] = ()
    order: int = 3
    nodes: str = "chebyshev"

    def n_at(self, epoch: int, epochs: int, k: int) -> int:
        """Coded inputs for a batch of ``k``: linear from n_start k to n_end k, rounded half up."""
        progress = epoch / (epochs - 1) if epochs > 1 else 1.0
        return int((self.n_start + (self.n_end - self.n_start) * progress) * k + 0.5)

    def __call__(self, stages: Stages, x: Tensor, y: Tensor, moment: Moment) -> Tensor:
        runs = target_runs(self.blocks, stages.count)
        # The paths part at the first target block; what lies before it is computed once.
        shared = stages.run(x, 0, runs[0][0])
        main = cross_entropy(stages.run(shared, runs[0][0], stages.count), y)
        codec = CodedSmoothing(
            len(x), self.n_at(moment.epoch, moment.epochs, len(x)), nodes=self.nodes, order=self.order
        )
        coded = cross_entropy(coded_path(stages, shared, runs, codec), y)
        return (1 - self.mu) * main + self.mu * coded


def target_runs(blocks: tuple[int, ...], count: int) -> list[tuple[int, int]]:
    """Neighbouring target blocks joined to [start, stop) ranges; no ``blocks`` means all ``count``."""
    runs: list[tuple[int, int]] = []
    for block in sorted(set(blocks)) or range(count):
        if runs and runs[-1][1] == block:
            runs[-1] = (runs[-1][0], block + 1)
        else:
            runs.append((block, block + 1))
    return runs


def coded_path(stages: Stages, z: Tensor, runs: list[tuple[int, int]], codec: CodedSmoothing) -> Tensor:
    """Logits ``[k, classes]`` by way of coded activations through each target run.

    Args:
        stages: the network.
        z: ``[k, ...]``, the activations before the first target run.
        runs: the target blocks, from :func:`target_runs`.
        codec: encodes before a run and decodes behind it; blocks between two runs see decoded values.
    """
    ends = [start for start, _ in runs[1:]] + [stages.count]
    for (start, stop), end in zip(runs, ends):
        z = codec(z, partial(stages.run, start=start, stop=stop))
        z = stages.run(z, stop, end)
    return z
