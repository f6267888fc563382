"""Accuracy of one trained network under the inferences of a study, clean and attacked."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from attacks.naming import parse
from attacks.perturbation_budget import PerturbationBudget
from attacks.registry import attack_for, estimator_for
from robustbench_coded.ablations.point import Inference
from robustbench_coded.data.dataset import Dataset
from robustbench_coded.defences.protocol import Defence
from robustbench_coded.defences.rci import RCI
from robustbench_coded.defences.standard import Standard
from robustbench_coded.evaluation.execution.score import predictions
from robustbench_coded.evaluation.execution.target import Target
from robustbench_coded.evaluation.planning.batches import Batch, partition
from robustbench_coded.evaluation.planning.streams import stream
from robustbench_coded.models.pixel_model import PixelModel

_IMAGES = 1024  # in one forward
SEED = 0  # of the attacks and draws: all runs are attacked and scored with the same random numbers


class Bench:
    """A network and the batches it is asked with.

    Args:
        model: pixels to logits.
        data: test images; the first ``limit`` of them, in batches of ``k``, the last one filled up.
        eps: radius of the attacks, linf in pixel units.
        draws: scoring draws of randomised inference.
    """

    def __init__(
        self,
        model: PixelModel,
        data: Dataset,
        *,
        k: int,
        limit: int,
        eps: float,
        draws: int,
        device: torch.device,
    ):
        self.model = model.to(device)
        self._batches = partition(min(limit, len(data)), k)
        self._data, self._k, self._draws, self._device = data, k, draws, device
        self._budget = PerturbationBudget("linf", eps)
        self._transferred: dict[tuple[str, int], Tensor] = {}

    def defence(self, inference: Inference) -> Defence:
        """The defence that an inference is."""
        if inference.n is None:
            return Standard(self.model)
        return RCI(self.model, self._k, inference.n, **inference.codec)

    def accuracy(self, inference: Inference, attack: str = "clean") -> float:
        """Mean over examples and scoring draws made after the attack, a fraction."""
        defence = self.defence(inference)
        right = scored = 0
        size = max(1, _IMAGES // (2 * self._k))
        for start in range(0, len(self._batches), size):
            group = self._batches[start : start + size]
            x, y = self._inputs(group)
            if attack != "clean":
                x = self._perturbed(defence, attack, x, y, group)
            draws = range(self._draws if defence.randomised else 1)
            found, _ = predictions(
                defence,
                x,
                y,
                seed=SEED,
                batches=[batch.index for batch in group],
                purpose="scoring",
                draws=draws,
                group_images=_IMAGES,
            )
            hits = found == y.cpu().numpy()
            for position, batch in enumerate(group):
                right += int(hits[:, position, : batch.scored].sum())
                scored += len(draws) * batch.scored
        return right / scored

    def _inputs(self, group: Sequence[Batch]) -> tuple[Tensor, Tensor]:
        pairs = [self._data.batch(batch.members) for batch in group]
        x, y = (torch.stack(tensors).to(self._device) for tensors in zip(*pairs, strict=True))
        return x, y

    def _perturbed(
        self, defence: Defence, attack: str, x: Tensor, y: Tensor, group: Sequence[Batch]
    ) -> Tensor:
        name, indices = parse(attack), [batch.index for batch in group]
        # A transferred perturbation knows nothing of the defence: it is made once for all of them.
        if (name.text, indices[0]) in self._transferred:
            return self._transferred[name.text, indices[0]]
        target = Target(defence, self._k, SEED, indices)
        estimator = estimator_for(name, target, base=self.model, max_images=_IMAGES)
        generators = [stream(SEED, index, "start") for index in indices]
        adversarial = attack_for(name).perturb(x, y, estimator, self._budget, generators)
        if name.estimator == "transfer":
            self._transferred[name.text, indices[0]] = adversarial
        return adversarial
