"""What all points of an ablation share."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from robustbench_coded.coding.sizes import FEWEST
from robustbench_coded.data.dataset import Dataset
from robustbench_coded.data.registry import load_data
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.options.default_eps import DIGITS_LINF, LINF
from robustbench_coded.models.build import construct
from robustbench_coded.training.config import TrainConfig
from robustbench_coded.training.recipes.coded import Coded
from robustbench_coded.training.recipes.registry import build_recipe

# Nine steps an epoch: the digits are few, so the rate is higher and nothing decays. Seconds a run.
DIGITS = {"epochs": 20, "learning_rate": 0.2, "weight_decay": 0.0}
_DIGITS_BALL = {"eps": 0.2, "steps": 7, "step_size": 0.05}
DIGITS_OPTIONS = {"pgd-at": _DIGITS_BALL, "trades": _DIGITS_BALL}


@dataclass(frozen=True)
class AblationSettings:
    """Attributes:
    base: coded training with the paper's options and the first seed; points differ from it in one respect.
    seeds: runs a point, with independent train-validation splits.
    limit: test images that RCI answers and attacks perturb; the first ones, all where there are fewer.
    draws: scoring draws of RCI.
    eps: radius of the attacks, linf in pixel units; None for 8/255, on digits 0.3.
    """

    base: TrainConfig
    seeds: int = 5
    limit: int = 640
    draws: int = 10
    eps: float | None = None

    def __post_init__(self) -> None:
        for option, value in (("--seeds", self.seeds), ("--limit", self.limit), ("--draws", self.draws)):
            if value < 1:
                raise InputError(f"{option} {value} is too small; give 1 or more")
        if self.limit < FEWEST:
            raise InputError(f"--limit {self.limit} is too small for a batch; give {FEWEST} or more")
        if self.eps is None:
            usual = DIGITS_LINF if self.base.data == "digits" else LINF
            object.__setattr__(self, "eps", usual)
        if not 0 <= self.radius <= 1:
            raise InputError(f"--eps {self.eps:g} is beyond the range of pixels; write 8/255, not 8")

    @property
    def radius(self) -> float:
        """``eps`` with its default filled in."""
        assert self.eps is not None
        return self.eps

    @property
    def k(self) -> int:
        """Batch size of training, and of RCI."""
        return self.base.batch_size

    @cached_property
    def _train_data(self) -> Dataset:
        return load_data(self.base.data, data_dir=self.base.data_dir, split="train")

    @property
    def train_images(self) -> int:
        """Training images, those held out among them."""
        return len(self._train_data)

    @cached_property
    def block_count(self) -> int:
        """Blocks of the architecture."""
        data = self._train_data
        channels, height, _ = data.image_shape
        return len(construct(self.base.arch, data.classes, channels, height).blocks())  # type: ignore[operator]

    def coded(self, **options: Any) -> TrainConfig:
        """Coded training with other options."""
        assert isinstance(self.base.recipe, Coded)
        return dataclasses.replace(self.base, recipe=dataclasses.replace(self.base.recipe, **options))

    def trained_by(self, recipe: str, **changes: Any) -> TrainConfig:
        """Training by another recipe, with its paper's options."""
        if recipe == "coded":
            return dataclasses.replace(self.base, **changes)
        options = DIGITS_OPTIONS.get(recipe) if self.base.data == "digits" else None
        return dataclasses.replace(self.base, recipe=build_recipe(recipe, options), **changes)


def base_config(arch: str, data: str, **given: Any) -> TrainConfig:
    """The coded run that an ablation starts from.

    Args:
        given: fields of ``TrainConfig`` that are not to be the defaults.
    """
    usual: dict[str, Any] = DIGITS if data == "digits" else {}
    if given.get("schedule") == "paper":
        usual = {}
    return TrainConfig(arch, data, recipe=Coded(), **{**usual, **given})
