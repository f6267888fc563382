"""The parts of an evaluation: subjects, the cases that each is attacked in, their units of work,
and the perturbed inputs that a unit is handed; the identity of a unit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from msgspec import to_builtins

from attacks.attack import AnyAttack, Attack, Options, Runnable, read_attack
from robustbench_coded.defences.options import GIVEN
from robustbench_coded.schema.case import Case, Perturbation, Subject, ThreatModel
from robustbench_coded.schema.words import CONTROLS

if TYPE_CHECKING:
    from robustbench_coded.runs.adversarials import PerturbedBatch


@dataclass(frozen=True)
class SubmittedInputs:
    """Perturbed inputs on their way to the process that scores them.

    In the process that has the run folder they are read when they are asked for. Sent to another process they
    travel as they are, once: that process may have no disk in common with this one, and sends none back.

    Attributes:
        read: gives, for each source, the perturbed inputs of the unit's batches by the index of the batch.
        arrived: True in the process that they were sent to.
    """

    read: Callable[[], list[dict[int, PerturbedBatch]]]
    arrived: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, ([] if self.arrived else self.read(),)


def _arrived(batches: list[dict[int, PerturbedBatch]]) -> SubmittedInputs:
    return SubmittedInputs(lambda: batches, arrived=True)


# Of the attacker's own draws, which choose the worst of several perturbed inputs.
CHOICE_DRAWS = 2


@dataclass(frozen=True)
class ProbedSubject:
    """A subject with what planning and attacks must know of it.

    Attributes:
        subject: as tables name it.
        spec: the defence's specification as text.
        k: size of the batches that the data are cut into.
        images: images through the network for one answered batch.
        images_of_victim: for the answer to one input of a batch; 0 where that takes as many.
        sequence: batches of ``k`` inputs in all, over which its memory is kept; 0 where it is emptied before
            each batch.
        hides_gradient: whether operators inside leave most of the gradient out, or all of it.
        differentiable: whether torch has a gradient for it.
        relaxable: whether there is one with smooth operators.
    """

    subject: Subject
    spec: str
    k: int
    randomised: bool
    batch_dependent: bool
    has_base: bool
    images: int
    sequence: int = 0
    hides_gradient: bool = False
    differentiable: bool = True
    relaxable: bool = True
    images_of_victim: int = 0

    def images_per_query(self, threat: ThreatModel) -> int:
        """Images through the network for what an attack asks of one batch."""
        return (threat.one_victim and self.images_of_victim) or self.images

    @property
    def copies(self) -> int:
        """Images through the network for an answered one, 1 at least."""
        return max(1, self.images // self.k)

    @property
    def checkpoint(self) -> str:
        return self.subject.checkpoint

    @property
    def label(self) -> str:
        """The defence as tables name it."""
        return self.subject.defence

    def has_gradient_for(self, attack: AnyAttack) -> bool:
        """True if an attack that follows a gradient has one; a user's own may bring it, as BPDA does."""
        return attack.package == "plugin" or (self.relaxable if attack.relaxed else self.differentiable)

    @property
    def independent(self) -> bool:
        """Deterministic and input by input: examples may be answered in any batch."""
        return not self.randomised and not self.batch_dependent


@dataclass(frozen=True)
class Submission:
    """Perturbed inputs that were made elsewhere, one forward pass for each draw of the target.

    Attributes:
        sources: the attacks that made them; of several attacks the target takes the worst for each input, or
            each batch, on the attacker's own draws.
        transforms: what is done to the perturbed inputs first.
    """

    sources: tuple[PlannedCase, ...]
    transforms: Options = ()

    @property
    def questions(self) -> int:
        """Forward passes that choosing costs, beside those of scoring."""
        return CHOICE_DRAWS * len(self.sources) if len(self.sources) > 1 else 0


@dataclass(frozen=True)
class PlannedCase:
    """A case with what its units are made from.

    Attributes:
        subject: the case's subject, probed.
        submission: where the perturbed inputs come from, if nothing is attacked for this case.
    """

    case: Case
    subject: ProbedSubject
    submission: Submission | None = None

    @property
    def threat(self) -> ThreatModel:
        return self.case.threat

    @property
    def perturbation(self) -> Perturbation:
        return self.case.perturbation

    @property
    def images_per_query(self) -> int:
        return self.subject.images_per_query(self.threat)

    @property
    def attack(self) -> str:
        return self.case.attack

    @property
    def made_by(self) -> AnyAttack | None:
        """The attack; None of controls."""
        return None if self.attack in CONTROLS else read_attack(self.attack)

    def of_attack(
        self, attack: str, step_size: float | None = None, submission: Submission | None = None
    ) -> PlannedCase:
        """Another attack in the same setting."""
        return replace(self, case=self.case.of_attack(attack, step_size), submission=submission)


def sees_queries(subject: ProbedSubject, attack: AnyAttack | None) -> bool:
    """True if the defence remembers what the attack asks: not where a network stands for it."""
    if not subject.sequence or not isinstance(attack, Attack):
        return False
    return attack.declared.asks_answers_alone and not attack.uses_base


def planned_case(
    subject: ProbedSubject,
    threat: ThreatModel,
    attack: Runnable | str,
    perturbation: Perturbation,
    step_size: float | None = None,
) -> PlannedCase:
    """One attack, in steps of its own size, or what the name of an attack or control says, on a subject."""
    if not isinstance(attack, str):
        step_size = attack.step_size_at(perturbation.eps)
    return PlannedCase(Case(subject.subject, threat, perturbation, str(attack), step_size), subject)


@dataclass(frozen=True)
class Unit:
    """A piece of one case that is computed and committed at once.

    Attributes:
        groups: batches by index, also those of victims; the batches of a group are answered in one forward.
        images: image gradients that it will cost, about.
        id: hash of all that decides its outcomes.
        random_batches: numbers of the random batches in which the inputs of ``groups`` are scored, after an
            attack in these; empty where they are scored as they were attacked.
        sources: where it attacks nothing itself, the units that made the perturbed inputs that it scores, by
            attack.
        keep: whether its perturbed inputs come back with its outcomes.
        scored: whether it has outcomes; without, it only makes its perturbed inputs again.
        submitted: the perturbed inputs of a case that attacks nothing, once they are at hand.
    """

    case: PlannedCase
    groups: tuple[tuple[int, ...], ...]
    images: int
    id: str
    random_batches: tuple[int, ...] = ()
    sources: tuple[tuple[Unit, ...], ...] = field(default=(), compare=False)
    keep: bool = field(default=False, compare=False)
    scored: bool = field(default=True, compare=False)
    submitted: SubmittedInputs | None = field(default=None, compare=False)


def code_names(checkpoint: str, spec: str = "", attack: str = "") -> tuple[str, str, str]:
    """Names of the user's code behind a case, if it is the user's: model, defence and attack."""
    shown = spec.removeprefix(GIVEN)
    return f"model {checkpoint}", f"defence {shown} on {checkpoint}", f"attack {attack}"


def code_behind(fixed: dict[str, Any], checkpoint: str, spec: str, attack: str = "") -> dict[str, Any]:
    """``{"code": digests}`` of the user's code that decides outcomes; empty where all of it is ours."""
    named: dict[str, str] = fixed.get("code", {})
    digests = [named[name] for name in code_names(checkpoint, spec, attack) if name in named]
    return {"code": digests} if digests else {}


# The identity of a unit of work is a hash of all that decides its outcomes, and the name of its files: a
# value that is written in another way orphans the units of every unfinished run.
FORMAT_VERSION = 4


def unit_id(unit: Unit, fixed: dict[str, Any]) -> str:
    """20 hexadecimal digits.

    Args:
        unit: the unit; its cost (``images``) and its id decide nothing.
        fixed: what decides outcomes beside the case, from `setup.prepare.fixed_facts`.
    """
    planned = unit.case
    subject, submission = planned.subject, planned.submission
    payload = {
        "format": FORMAT_VERSION,
        "case": to_builtins(planned.case),
        "subject": {
            "spec": subject.spec,
            "k": subject.k,
            "randomised": subject.randomised,
            "batch_dependent": subject.batch_dependent,
            "has_base": subject.has_base,
            "images": planned.images_per_query,
            **({"sequence": subject.sequence} if subject.sequence else {}),
        },
        "submission": submission
        and {
            "sources": [[source.id for source in units] for units in unit.sources],
            "transforms": [list(transform) for transform in submission.transforms],
        },
        "groups": unit.groups,
        "random_batches": unit.random_batches,
        "context": {key: value for key, value in fixed.items() if key not in ("checkpoints", "code")},
        "checkpoint": fixed["checkpoints"][subject.checkpoint],
        **code_behind(fixed, subject.checkpoint, subject.spec, planned.attack),
    }
    return hashlib.blake2b(json.dumps(payload, sort_keys=True).encode(), digest_size=10).hexdigest()
