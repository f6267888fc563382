"""Attacks as data: what is run (`Attack`), code of others (`Package`), inputs made elsewhere (`Submitted`).

Their text is how names, tables and files spell them; ``attacks.naming.read_attack`` reads it. Another attack
is ``msgspec.structs.replace(attack, steps=40)``. Nothing here needs torch.
"""

import dataclasses
import re
from math import ceil
from typing import ClassVar, Literal, cast

from msgspec import Struct, structs

from attacks.algorithm import ALGORITHMS, AUTO_PGD, Algorithm, LossName
from attacks.norms import NORMS

# What a surrogate was taught is in committed runs, and no longer asked for.
Knows = Literal["fresh", "fixed", "aware", "transfer", "bpda", "surrogate", "submitted"]
THIRD_PARTY_STEPS = 100  # of a third-party attack whose number of steps its name does not say
OPTIONS = ("init", "start", "loss", "momentum", "restarts", "targets", "apart", "target")  # after a plus sign
Options = tuple[tuple[str, str], ...]


class Attack(Struct, frozen=True):
    """An algorithm of this package, with what its name may say; None of what it does not say.

    Attributes:
        algorithm: a name of ``ALGORITHMS``.
        steps: steps, or queries of a black-box attack.
        knows: what the attacker has: a fresh draw at each query, one surrogate draw (``fixed``), the scored
            draw (``aware``), the base model (``transfer``), both models (``bpda``).
        eot: fresh draws averaged in each query.
        relaxed: whether operators that hide the gradient have a smooth backward.
        step_size: in units of eps's space.
        init: the attack whose result this one continues from; it has no options of its own.
        start: ``clean`` for the clean image, where it would begin at random.
        loss: what it raises.
        momentum: the decay factor of the accumulated gradients, in [0, 1].
        restarts: runs, of which the best counts.
        targets: classes of a targeted algorithm that are tried.
        apart: the share of pixels that a query of random search draws again, in [0, 1].
        target: the class that it leads to; None for any but the true one.
    """

    package: ClassVar[None] = None

    algorithm: str
    steps: int | None = None
    knows: Knows = "fresh"
    eot: int | None = None
    relaxed: bool = False
    step_size: float | None = None
    init: "Attack | None" = None
    start: Literal["clean"] | None = None
    loss: LossName | None = None
    momentum: float | None = None
    restarts: int | None = None
    targets: int | None = None
    apart: float | None = None
    target: int | None = None

    def __str__(self) -> str:
        eot = "" if self.eot is None else f"eot{self.eot}-"
        knows = "" if self.knows == "fresh" else f"{self.knows}-"
        steps = "" if self.steps is None else f"-{self.steps}"
        size = "" if self.step_size is None else f"@{_spelled(self.step_size)}"
        before = f"{'relaxed-' * self.relaxed}{eot}{knows}"
        return f"{before}{self.algorithm}{steps}{size}{_after_plus(self.options)}"

    @property
    def options(self) -> Options:
        """``(option, text)`` of all that its name says after plus signs."""
        given = ((option, getattr(self, option)) for option in OPTIONS)
        return tuple((option, _spelled(value)) for option, value in given if value is not None)

    @property
    def declared(self) -> Algorithm:
        """The algorithm."""
        return ALGORITHMS[self.algorithm]

    @property
    def draws(self) -> int:
        """Fresh draws averaged in each query (M)."""
        if self.knows != "fresh":
            return 1
        return self.eot or self.declared.draws

    @property
    def uses_base(self) -> bool:
        """True if it needs the base model."""
        return self.knows in ("transfer", "bpda") or (self.init is not None and self.init.uses_base)

    @property
    def differentiates(self) -> bool:
        """True if it asks for gradients of the defence itself."""
        return self.knows not in ("transfer", "bpda", "surrogate") and not self.declared.asks_answers_alone

    def with_steps(self, steps: int) -> "Attack":
        """The same attack in so many steps."""
        return structs.replace(self, steps=steps)

    def step_size_at(self, eps: float) -> float | None:
        """The step size it takes, in units of eps's space; None where it has none of its own."""
        if (default := self.declared.written.step_size) is None:
            return None
        return default(eps, self.steps or 1) if self.step_size is None else self.step_size

    def queries(self, *, randomised: bool) -> tuple[int, int]:
        """Forwards and backwards of each input, about; N/K and co-batched inputs come on top."""
        cost = self.declared.queries(self, randomised=randomised)
        draws = self.draws if randomised else 1
        more = self.init.queries(randomised=randomised) if self.init else (0, 0)
        return ceil(cost.forwards) * draws + more[0], ceil(cost.backwards) * draws + more[1]


TORCHATTACKS_LINF = (
    "APGD", "APGDT", "BIM", "DIFGSM", "EOTPGD", "FAB", "FFGSM", "FGSM", "Jitter", "MIFGSM", "NIFGSM", "PGD",
    "PIFGSM", "PIFGSMPP", "RFGSM", "SINIFGSM", "SPSA", "Square", "TIFGSM", "TPGD", "UPGD", "VMIFGSM",
    "VNIFGSM",
)  # fmt: skip
TORCHATTACKS_L2 = ("APGD", "APGDT", "FAB", "PGDL2", "Square")
AUTOATTACK = (
    "standard", "plus", "rand", "apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square",
)  # fmt: skip


class _Elsewhere(Struct, frozen=True):
    """Facts of attacks that are not of this package."""

    draws: ClassVar[int] = 1
    relaxed: ClassVar[bool] = False
    init: ClassVar[None] = None
    target: ClassVar[None] = None
    uses_base: ClassVar[bool] = False


class Package(_Elsewhere, frozen=True):
    """An attack of another package or of the user's own.

    Attributes:
        package: ``plugin`` for the user's own.
        algorithm: the package's name for it; of the user's own ``package.module:name`` or ``file.py:name``.
        options: ``(option, value)`` in the order given, as text.
    """

    knows: ClassVar[Knows] = "fresh"

    package: Literal["torchattacks", "autoattack", "plugin"]
    algorithm: str
    options: Options = ()

    def __str__(self) -> str:
        prefix = "" if self.package == "plugin" else f"{self.package}:"
        return f"{prefix}{self.algorithm}{_after_plus(self.options)}"

    @property
    def steps(self) -> int | None:
        """The option ``steps``, if it has one that is a count."""
        given = dict(self.options).get("steps", "")
        return int(given) if re.fullmatch("[1-9][0-9]{0,6}", given) else None

    @property
    def declared(self) -> Algorithm:
        """That of our algorithm of the same name; torchattacks raises the cross-entropy by default."""
        if self.package == "plugin":
            return Algorithm("", "", kind=AUTO_PGD, loss=None, norms=NORMS)
        on_ce = self.package == "torchattacks" and self.algorithm not in ("APGDT", "FAB")
        ours = ALGORITHMS.get(self.algorithm.lower()) or Algorithm("", "", loss="ce" if on_ce else "dlr")
        norms = {"torchattacks": ("linf", "l2"), "autoattack": ("linf", "l2", "l1")}[self.package]
        return dataclasses.replace(ours, kind=AUTO_PGD, norms=norms)

    @property
    def differentiates(self) -> bool:
        """True if it asks for gradients of the defence itself."""
        return not self.declared.asks_answers_alone

    def with_steps(self, steps: int) -> "Package":
        """The same attack, whose option ``steps`` it was, in so many steps."""
        return structs.replace(self, options=tuple({**dict(self.options), "steps": str(steps)}.items()))

    def step_size_at(self, eps: float) -> None:
        """None: its step size is the package's."""

    def queries(self, *, randomised: bool) -> tuple[int, int]:
        """Forwards and backwards of each input, about."""
        return (steps := self.steps or THIRD_PARTY_STEPS), steps


LEVELS, BITS = "levels", "bits"
EIGHT_BITS, EIGHT_BIT_LEVELS = (BITS, "8"), 255
PREFIX, SEVERAL = "from:", "ensemble"


class Submitted(_Elsewhere, frozen=True):
    """Perturbed inputs that were made against one subject and are submitted to another.

    They are named ``from:SUBJECT/ATTACK[+levels=L][+bits=8]``. ``levels=16`` rounds the perturbed pixels to
    multiples of 1/16, ``bits=8`` to those of 1/255. Committed runs also have ``shrunk`` (scaled) and
    ``slots`` (clean in some of a batch's slots), which are no longer submitted.

    Attributes:
        subject: a defence, ``standard`` or ``rci:N=190``, with ``@CHECKPOINT`` behind it where its checkpoint
            is another than the target's.
        attack: that made the perturbations; None where the target takes the worst of several.
        options: ``(transform, value)``, in their order.
    """

    package: ClassVar[None] = None
    knows: ClassVar[Knows] = "submitted"
    algorithm: ClassVar[str] = "submitted"
    declared: ClassVar[Algorithm] = Algorithm("", "", loss=None)
    steps: ClassVar[None] = None
    differentiates: ClassVar[bool] = False

    subject: str
    attack: "AnyAttack | None" = None
    options: Options = ()

    def __str__(self) -> str:
        return f"{PREFIX}{self.subject}/{self.attack or SEVERAL}{_after_plus(self.options)}"


Runnable = Attack | Package
AnyAttack = Runnable | Submitted


def suited(attack: AnyAttack, norm: str) -> AnyAttack:
    """The attack; in l0, if it is of this package and does not know that norm, one of the same kind.

    Those with gradients become sparse PGD, on the margin where theirs was not the cross-entropy; those
    without become Sparse-RS. What surrounds the algorithm stays: what it knows, start and target.
    """
    if norm != "l0" or not isinstance(attack, Attack) or norm in attack.declared.norms:
        return attack
    family = "search" if attack.declared.asks_answers_alone else "gradient"
    # What knows other norms, too, is at home there.
    instead = next(each for each in ALGORITHMS.values() if (each.norms, each.family) == ((norm,), family))
    on_margin = "loss" in instead.takes and (attack.loss or attack.declared.loss) != "ce"
    return Attack(
        instead.name,
        attack.steps or 20,
        attack.knows,
        attack.eot,
        attack.relaxed,
        init=attack.init and cast(Attack, suited(attack.init, norm)),
        loss="margin" if on_margin else None,
        target=attack.target,
    )


def _after_plus(options: Options) -> str:
    return "".join(f"+{option}={text}" for option, text in options)


def _spelled(value: object) -> str:
    """A number without digits that say nothing, ``8/255`` where that is shorter; an attack's name; text."""
    if not isinstance(value, float):
        return str(value)
    texts = [repr(value), f"{value:g}", f"{round(255 * value, 6):g}/255"]
    same = (text for text in texts if number_in(text) == value)
    return min(same, key=len).replace("e+", "e")  # options begin with a plus sign


def number_in(text: str) -> float:
    """The number of ``0.1`` or ``8/255``.

    Raises:
        ValueError, ZeroDivisionError: there is none.
    """
    over, _, under = text.partition("/")
    return float(over) / float(under or 1)
