"""Auto-PGD on the margin, then towards one class after the other (MultiTargeted, arXiv 1910.09338)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.apgd import likeliest_wrong
from attacks.apgd_l1 import search_for
from attacks.estimators import Estimator
from attacks.losses import cross_entropy, margin_loss, pair_loss, targeted_dlr
from attacks.perturbation_budget import PerturbationBudget


@dataclass(frozen=True)
class ApgdMultiTargeted:
    """What finds most comes first, and each run goes on from the best point so far.

    The margin alone breaks most of what can be broken. It ends at a boundary to the likeliest wrong class at
    that point, so the targeted runs aim at the next ones there: classes that the margin had no reason to try.
    Where the losses of a batch are raised together, or averaged over draws, the margin spends as much on
    examples that are far from any boundary as on the others: there, cross-entropy takes its place, and the
    cross-entropy of two classes that of the targeted ratio.

    Attributes:
        steps: moves of every run.
        targets: classes aimed at after the margin, at most all but two.
        early_stop: stop on an example after its first wrong answer. Only for targets that answer inputs one
            by one and without randomness.
    """

    steps: int
    targets: int = 3
    early_stop: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1 or self.targets < 1:
            raise ValueError(f"expected steps and targets >= 1, got {self.steps} and {self.targets}")

    def perturb(
        self,
        x: Tensor,
        y: Tensor,
        estimator: Estimator,
        budget: PerturbationBudget,
        generators: Sequence[torch.Generator],
        start: Tensor | None = None,
    ) -> Tensor:
        """See ``attacks.attack.Attack``; the run on the margin begins at ``start`` where there is one."""
        search = search_for(estimator, budget, x, y, self.steps, early_stop=self.early_stop)
        loss, towards = (margin_loss, targeted_dlr) if estimator.per_example else (cross_entropy, pair_loss)
        begun = search.uniform(generators) if start is None else search.project(start)
        search.run(begun, search.y, loss)
        if search.over:
            return search.result()
        left = search.left
        found = estimator.value(search.best_x[:, left], search.y[:, left], margin_loss).logits
        logits = found.new_zeros(*search.y.shape, found.shape[-1])
        logits[:, left] = found
        for rank, target in enumerate(likeliest_wrong(logits, search.y, self.targets + 1)):
            if rank:
                search.run(search.best_x, torch.stack([search.y, target], -1), towards)
        return search.result()
