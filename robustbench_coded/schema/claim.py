"""What is claimed of a defence: an accuracy, which one, and the threat model and budget it is for."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from robustbench_coded.schema.case import BudgetKey
from robustbench_coded.schema.threat_model import ThreatModel


class ClaimedAccuracy(StrEnum):
    """Which of the accuracies over several draws a claim is about; without randomness they are the same."""

    MEAN = "mean"
    MAJORITY = "majority"
    EVERY_DRAW = "every-draw"


def setting_of_claim(
    threat: str | None, eps: float | None, inputs: Iterable[str], radii: Iterable[float]
) -> tuple[str, float | None]:
    """The threat model and radius that a claim is about, with defaults for what it does not name.

    Args:
        inputs: what attackers perturb; the default are the first of them, with the draw unknown.
        radii: that are evaluated; the default is the largest, None without any.
    """
    first = next(iter(inputs), "batch")
    return threat or f"{first}/unknown", max(radii, default=None) if eps is None else eps


@dataclass(frozen=True)
class Claim:
    """An accuracy that is claimed.

    Attributes:
        value: the accuracy, a fraction.
        threat: the threat model under which it is to hold.
        budget: the perturbation budget; None where no eps is known, and then nothing refutes it.
        about: which accuracy.
        attack: the attack under which it was measured; None where none is named.
    """

    value: float
    threat: ThreatModel
    budget: BudgetKey | None
    about: ClaimedAccuracy = ClaimedAccuracy.MEAN
    attack: str | None = None

    def is_about(self, threat: ThreatModel, budget: BudgetKey) -> bool:
        """Whether figures under this threat model and budget can refute it."""
        return self.threat == threat and self.budget == budget
