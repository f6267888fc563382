"""Threat models, and the identity of a row: a subject, a threat model, an attack and a perturbation budget.

A threat model says what the attacker controls and knows; the budget is named beside it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

INPUTS = ("batch", "victim", "co-batch", "collateral")
RANDOMNESS = ("unknown", "known")
_COLLATERAL = re.compile(r"collateral-([1-9][0-9]{0,5})(-box)?")


@dataclass(frozen=True)
class ThreatModel:
    """Which inputs of a batch are the attacker's, and whether the defence's draw is known to it.

    Attributes:
        inputs: ``batch`` (all K inputs, each within eps), ``victim`` (one input within eps among clean
            ones), ``co-batch`` (one victim within eps, the others anywhere in the box), ``collateral-M`` (M
            inputs within eps, to harm those that are not touched and that alone are scored) or
            ``collateral-M-box`` (the same, anywhere in the box).
        randomness: ``unknown`` (the draw is made after the attack) or ``known`` (a new attack for each draw).

    Raises:
        ValueError: inputs or randomness that do not exist.
    """

    inputs: str
    randomness: str

    def __post_init__(self):
        if self.inputs not in INPUTS[:3] and not _COLLATERAL.fullmatch(self.inputs):
            raise ValueError(f"expected inputs out of {', '.join(INPUTS)}, got {self.inputs!r}")
        if self.randomness not in RANDOMNESS:
            raise ValueError(f"expected randomness out of {', '.join(RANDOMNESS)}, got {self.randomness!r}")

    @staticmethod
    @lru_cache(maxsize=1024)
    def parse(text: str) -> "ThreatModel":
        """``inputs/randomness``, as tables and files write it.

        Raises:
            ValueError: it is no threat model of this version.
        """
        inputs, _, randomness = text.partition("/")
        return ThreatModel(inputs, randomness)

    def __str__(self) -> str:
        return f"{self.inputs}/{self.randomness}"

    @property
    def draw_known(self) -> bool:
        """Whether the attacker knows the draw that is scored."""
        return self.randomness == "known"

    @property
    def one_victim(self) -> bool:
        """Whether each scored example is the victim of a batch of its own."""
        return self.inputs in ("victim", "co-batch")

    @property
    def whole_batch(self) -> bool:
        """Whether every input of a batch is the attacker's."""
        return self.inputs == "batch"

    @cached_property
    def malicious(self) -> int | None:
        """M of ``collateral-M``; None elsewhere."""
        match = _COLLATERAL.fullmatch(self.inputs)
        return int(match[1]) if match else None

    @property
    def collateral(self) -> bool:
        """Whether it is the untouched inputs that are scored."""
        return self.malicious is not None

    @property
    def free(self) -> bool:
        """Whether some inputs may go anywhere in the box."""
        return self.inputs == "co-batch" or self.inputs.endswith("-box")

    def with_draw(self, randomness: str) -> "ThreatModel":
        """The same inputs with the draw ``known`` or ``unknown``."""
        return ThreatModel(self.inputs, randomness)


# All inputs of a batch within eps, the draw made afterwards: what the paper measured.
WHOLE_BATCH = ThreatModel("batch", "unknown")


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
