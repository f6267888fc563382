"""The identity of a row: one subject under one threat model, one attack and one perturbation budget."""

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
