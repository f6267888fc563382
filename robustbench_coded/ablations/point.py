"""The rows and columns of an ablation: what was trained, and how it was then asked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from robustbench_coded.training.config import TrainConfig


@dataclass(frozen=True)
class Point:
    """One setting of what a study varies.

    Attributes:
        name: the setting, as the table's first column shows it.
        config: the run with the first seed.
        x: its place on the figure's axis; None where settings have no order.
        paper: the key of its row in the paper's table; None for a setting the paper does not have.
    """

    name: str
    config: TrainConfig
    x: float | None = None
    paper: str | None = None


@dataclass(frozen=True)
class Inference:
    """A way of asking a trained network.

    Attributes:
        name: as the table's columns show it.
        n: coded inputs of RCI for a batch of K, as for ``coding.sizes.coded_size``; None asks the network
            itself.
        codec: ``nodes`` and ``order`` of RCI's codec where they are not the defaults.
        attacks: names of attacks beside clean inputs.
    """

    name: str
    n: str | None = None
    codec: Mapping[str, Any] = field(default_factory=dict)
    attacks: tuple[str, ...] = ()


STANDARD = Inference("standard", attacks=("pgd-10",))
RCI_K = Inference("RCI N=K", "K")
RCI = Inference("RCI N=1.5K", "1.5K", attacks=("pgd-10", "transfer-pgd-20"))
USUAL = (STANDARD, RCI_K, RCI)
