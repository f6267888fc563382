"""The case: what is attacked and how. A subject, a threat model, a perturbation and an attack.

A threat model says what the attacker controls and knows; how far it may go is named beside it.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.structs import asdict, replace

Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Number = Annotated[float, Meta(ge=-1e9, le=1e9)]  # leaves out NaN and infinities, too

INPUTS = ("batch", "victim", "co-batch")
RANDOMNESS = ("unknown", "known")


class ThreatModel(Struct, frozen=True):
    """The inputs of a batch that the attacker controls, and whether it knows the defence's draw.

    Attributes:
        inputs: ``batch`` (all K inputs, each within eps), ``victim`` (one input within eps among clean
            ones) or ``co-batch`` (one victim within eps, the others anywhere in the box).
        randomness: ``unknown`` (the draw is made after the attack) or ``known`` (a new attack for each draw).

    Raises:
        ValueError: inputs or randomness that do not exist.
    """

    inputs: str
    randomness: str

    def __post_init__(self) -> None:
        if self.inputs not in INPUTS:
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
        """True if the attacker knows the draw that is scored."""
        return self.randomness == "known"

    @property
    def one_victim(self) -> bool:
        """True if each scored example is the victim of a batch of its own."""
        return self.inputs in ("victim", "co-batch")

    @property
    def free(self) -> bool:
        """True if some inputs may go anywhere in the box."""
        return self.inputs == "co-batch"

    def with_draw(self, randomness: str) -> "ThreatModel":
        """The same inputs with the draw ``known`` or ``unknown``."""
        return ThreatModel(self.inputs, randomness)


# All inputs of a batch within eps, the draw made afterwards: what the paper measured.
WHOLE_BATCH = ThreatModel("batch", "unknown")


class Subject(Struct, frozen=True):
    """One checkpoint behind one defence at one batch size; k and n None where they mean nothing."""

    checkpoint: str
    defence: str
    k: Count | None
    n: Count | None

    @property
    def inference(self) -> tuple[str, int | None, int | None]:
        """The defence and its sizes, whatever the checkpoint."""
        return self.defence, self.k, self.n

    @property
    def at_any_size(self) -> "Subject":
        """The checkpoint behind the defence at no particular batch size."""
        return Subject(self.checkpoint, self.defence, None, None)

    def of_checkpoint(self, name: str) -> "Subject":
        """The same inference on another checkpoint."""
        return replace(self, checkpoint=name)


class Perturbation(Struct, frozen=True):
    """A perturbation budget: norm, radius, and the space of the radius."""

    norm: str
    eps: Number
    eps_space: str


class Case(Struct, frozen=True):
    """A subject, a threat model, a perturbation budget and an attack: the key of every table.

    Attributes:
        attack: the attack's name; a control or the name of a combined row. Empty in a `setting`.
        step_size: of attacks that take one of their own, in units of eps's space.
    """

    subject: Subject
    threat: ThreatModel
    perturbation: Perturbation
    attack: str
    step_size: Number | None = None

    @property
    def setting(self) -> "Case":
        """The case without its attack: equal for those that `strongest` and `ensemble` are made from."""
        return Case(self.subject, self.threat, self.perturbation, "")

    def under(self, threat: ThreatModel) -> "Case":
        """The setting of the same subject and perturbation under another threat model."""
        return Case(self.subject, threat, self.perturbation, "")

    def of_attack(self, attack: str, step_size: float | None = None) -> "Case":
        """Another attack in the same setting."""
        return Case(self.subject, self.threat, self.perturbation, attack, step_size)

    def of_checkpoint(self, name: str) -> "Case":
        """The same on another checkpoint."""
        return replace(self, subject=self.subject.of_checkpoint(name))

    def as_columns(self) -> dict[str, Any]:
        """The key columns of every table and outcome file, in their order."""
        return {
            **asdict(self.subject),
            "threat": str(self.threat),
            "attack": self.attack,
            **asdict(self.perturbation),
            "step_size": self.step_size,
        }

    @staticmethod
    def from_columns(columns: Mapping[str, Any]) -> "Case":
        """The case of these key columns.

        Raises:
            ValueError: a threat model that this version does not know.
        """
        subject = Subject(*(columns[name] for name in SUBJECT_COLUMNS))
        perturbation = Perturbation(*(columns[name] for name in PERTURBATION_COLUMNS))
        threat = ThreatModel.parse(columns["threat"])
        return Case(subject, threat, perturbation, columns["attack"], columns["step_size"])


SUBJECT_COLUMNS = Subject.__struct_fields__
PERTURBATION_COLUMNS = Perturbation.__struct_fields__
KEY_COLUMNS = (*SUBJECT_COLUMNS, "threat", "attack", *PERTURBATION_COLUMNS, "step_size")


class StatedClaim(Struct, frozen=True):
    """An accuracy that is claimed, as it was stated: what it does not name has defaults.

    Attributes:
        value: the accuracy, a fraction.
        attack: the attack under which it was measured.
        threat: the threat model, as text; the default is the first of the evaluated inputs, the draw unknown.
        eps: the radius; the default is the largest that is evaluated.
        votes: of how many answers, to one input in so many draws, the majority is meant; 1 for the mean over
            draws.
    """

    value: Annotated[float, Meta(ge=0, le=1)]
    attack: str | None = None
    threat: str | None = None
    eps: float | None = None
    votes: Count = 1

    def setting(self, inputs: Iterable[str], radii: Iterable[float]) -> tuple[str, float | None]:
        """The threat model and radius that it is about, None without any radius.

        Args:
            inputs: what attackers perturb.
            radii: that are evaluated.
        """
        threat = self.threat or f"{next(iter(inputs), 'batch')}/unknown"
        return threat, max(radii, default=None) if self.eps is None else self.eps


class Claim(Struct, frozen=True):
    """An accuracy that is claimed.

    Attributes:
        value: the accuracy, a fraction.
        votes: of how many answers, to one input in so many draws, the majority is meant; 1 for the mean over
            draws.
        threat: the threat model under which it is to hold.
        perturbation: None where no eps is known, and then nothing refutes it.
        attack: the attack under which it was measured; None where none is named.
    """

    value: float
    threat: ThreatModel
    perturbation: Perturbation | None
    attack: str | None = None
    votes: Count = 1

    @property
    def of_what(self) -> str:
        """``of answers`` or ``of majorities of 10 answers``."""
        return "of answers" if self.votes == 1 else f"of majorities of {self.votes} answers"

    def is_about(self, case: Case) -> bool:
        """True if figures of this case can refute it."""
        return self.threat == case.threat and self.perturbation == case.perturbation
