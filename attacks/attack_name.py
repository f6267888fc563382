"""Parsed names of attacks, of submitted inputs and of other packages' attacks.

Names are read by ``attacks.naming``. Perturbed inputs that were made against one subject and are submitted
to another are named

    from:SUBJECT/ATTACK[+shrunk=FACTOR][+slots=SHARE][+levels=L][+bits=8]

SUBJECT is a defence, ``standard`` or ``rci:N=190``, with ``@CHECKPOINT`` behind it where its checkpoint is
another than the target's. ATTACK is the attack that made the perturbations, or ``ensemble``: the target takes
the worst of several. ``shrunk`` scales each perturbation, ``slots=0.5`` leaves the inputs in half of each
batch's slots clean, ``levels=16`` rounds the perturbed pixels to multiples of 1/16, ``bits=8`` to those of
1/255.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

EstimatorName = Literal[
    "fresh",
    "fixed",
    "aware",
    "transfer",
    "bpda",
    "submitted",
    "surrogate",
]
SUBMITTED: EstimatorName = "submitted"

# gradient: through the defence. search: compares scores. estimate: of the gradient, from scores. decision:
# labels alone. nearest: the nearest wrong answer, whatever eps is, by gradients.
Family = Literal["gradient", "search", "estimate", "decision", "nearest"]
WITHOUT_GRADIENTS: tuple[Family, ...] = ("search", "decision", "estimate")
LossName = Literal["ce", "margin", "dlr"]


@dataclass(frozen=True, kw_only=True)
class Traits:
    """Properties of an algorithm that plans, checks and reports use, in place of its name.

    Attributes:
        family: what it asks of the defence.
        loss: what it raises unless the attack's name says otherwise; None where that is unknown.
        kind: attacks of one kind tend to find the same.
        plain: one gradient a step from a random start. Losses by step are kept, and others are measured by
            its lengths.
        chooses_draws: it averages nothing: it holds many draws and attacks those that can fall together.
        partial: it goes less far than eps, or not everywhere.
        restarts: its number counts starts, not steps.
        informative: whether its figure says what a network keeps. One step or a search for jumps does not.
    """

    family: Family = "gradient"
    loss: LossName | None = None
    kind: str = "ascent"
    plain: bool = False
    chooses_draws: bool = False
    partial: bool = False
    restarts: bool = False
    informative: bool = True


@dataclass(frozen=True)
class AttackName:
    """Attributes:
    text: the name as given, as stored in results.
    estimator: what the attacker knows; ``submitted`` of perturbed inputs that were made elsewhere.
    draws: fresh draws averaged in each query (M); 1 for the other estimators.
    algorithm: a name of the ``CATALOGUE``, or a third-party package's name for it.
    steps: steps, or queries of a black-box attack; None for FGSM.
    step_size: in units of eps's space; None for the algorithm's default.
    third_party: the package an attack comes from, "torchattacks" or "autoattack"; "plugin" for one of the
        user's own, whose algorithm is ``package.module:name`` or ``file.py:name``; None for one of ours.
    options: ``(option, value)`` in the order given, as text.
    relaxed: whether operators that hide the gradient have a smooth backward.
    traits: of the algorithm.
    init: the attack whose result this one continues from.
    """

    text: str
    estimator: EstimatorName
    draws: int
    algorithm: str
    steps: int | None
    step_size: float | None
    third_party: str | None = None
    options: tuple[tuple[str, str], ...] = ()
    relaxed: bool = False
    traits: Traits = field(default=Traits(), compare=False)
    init: "AttackName | None" = field(default=None, compare=False)

    @property
    def asks_answers_alone(self) -> bool:
        """True if the algorithm asks for no gradients."""
        return self.traits.family in WITHOUT_GRADIENTS

    @property
    def target(self) -> int | None:
        """The class that it leads to; None for any but the true one."""
        given = dict(self.options).get("target") if self.third_party is None else None
        return None if given is None else int(given)

    @property
    def uses_base(self) -> bool:
        """True if it needs the base model."""
        return self.estimator in ("transfer", "bpda") or (self.init is not None and self.init.uses_base)

    @property
    def differentiates(self) -> bool:
        """True if it asks for gradients of the defence itself."""
        elsewhere = self.estimator in ("transfer", "bpda", "surrogate", SUBMITTED)
        return not elsewhere and not self.asks_answers_alone


PREFIX = "from:"
SHRUNK = "shrunk"
SLOTS = "slots"
LEVELS = "levels"
BITS = "bits"
EIGHT_BITS = (BITS, "8")
SEVERAL = "ensemble"  # in place of an attack: the worst of several

_TRANSFORM = re.compile(r"\+(?P<option>shrunk|slots|levels|bits)=(?P<value>[^+]*)$")

_VALUES = {
    SHRUNK: r"0\.[0-9]{1,4}",
    SLOTS: r"0\.[0-9]{1,4}",
    LEVELS: r"[1-9][0-9]{0,2}",
    BITS: "8",
}

Transforms = tuple[tuple[str, str], ...]


def name_of_submitted(subject: str, attack: str, transforms: Sequence[tuple[str, str]] = ()) -> str:
    """The name of perturbed inputs of ``attack`` on ``subject``, with what was done to them since."""
    return f"{PREFIX}{subject}/{attack}" + "".join(f"+{option}={value}" for option, value in transforms)


def split_submitted(text: str) -> tuple[str, str, Transforms]:
    """Subject, attack and transforms of a name that begins with ``from:``.

    Raises:
        ValueError: it is not of that form.
    """
    subject, slash, attack = text.removeprefix(PREFIX).partition("/")
    if not text.startswith(PREFIX) or not subject or not slash or not attack:
        raise ValueError(f"expected from:SUBJECT/ATTACK, got {text!r}")
    transforms: Transforms = ()
    while match := _TRANSFORM.search(attack):
        option, value = match["option"], match["value"]
        if re.fullmatch(_VALUES[option], value) is None:
            raise ValueError(f"expected shrunk=0.5 (below 1), slots=0.5, levels=16 or bits=8, got {text!r}")
        transforms = ((option, value), *transforms)
        attack = attack[: match.start()]
    return subject, attack, transforms
