"""The identity of a row: one subject under one threat model, one attack and one perturbation budget."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from robustbench_coded.schema.threat_model import ThreatModel


class SubjectKey(NamedTuple):
    """One checkpoint behind one defence at one batch size; k and n None where they mean nothing."""

    checkpoint: str
    defence: str
    k: int | None
    n: int | None


class BudgetKey(NamedTuple):
    """How far a perturbation may go: norm, radius, and the space that the radius is measured in."""

    norm: str
    eps: float
    eps_space: str


class CaseKey(NamedTuple):
    """What one row of a run is about, wherever it stands: plan, run.json, outcomes, summary or evidence.

    The fields are the key columns of summary.csv in their order; ``None`` where a number means nothing.
    """

    checkpoint: str
    defence: str
    k: int | None
    n: int | None
    threat: ThreatModel
    attack: str
    norm: str
    eps: float
    eps_space: str
    step_size: float | None

    @classmethod
    def of(
        cls,
        subject: SubjectKey,
        threat: ThreatModel,
        attack: str,
        budget: BudgetKey,
        step_size: float | None = None,
    ) -> "CaseKey":
        """The key of these parts."""
        return cls(*subject, threat, attack, *budget, step_size)

    @property
    def subject(self) -> SubjectKey:
        return SubjectKey(self.checkpoint, self.defence, self.k, self.n)

    @property
    def budget(self) -> BudgetKey:
        return BudgetKey(self.norm, self.eps, self.eps_space)

    @property
    def setting(self) -> "CaseKey":
        """The key without its attack: equal for the rows that `strongest` and `ensemble` are made from."""
        # Made for each row of each comparison: _replace takes several times as long.
        return CaseKey._make((*self[:5], "", *self[6:9], None))

    def under(self, threat: ThreatModel) -> "CaseKey":
        """The setting of the same subject and budget under another threat model."""
        return self.setting._replace(threat=threat)

    def of_attack(self, attack: str) -> "CaseKey":
        """The key of another row of the same setting, of an attack without a step size of its own."""
        return self._replace(attack=attack, step_size=None)

    def as_columns(self) -> dict[str, object]:
        """The key columns of a table, the threat model as text."""
        return {**self._asdict(), "threat": str(self.threat)}


KEY_COLUMNS = CaseKey._fields


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
    """An accuracy that is claimed: the mean over draws.

    Attributes:
        value: the accuracy, a fraction.
        threat: the threat model under which it is to hold.
        budget: the perturbation budget; None where no eps is known, and then nothing refutes it.
        attack: the attack under which it was measured; None where none is named.
    """

    value: float
    threat: ThreatModel
    budget: BudgetKey | None
    attack: str | None = None

    def is_about(self, threat: ThreatModel, budget: BudgetKey) -> bool:
        """Whether figures under this threat model and budget can refute it."""
        return self.threat == threat and self.budget == budget
