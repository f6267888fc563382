"""Attacks as data: what is run (`Attack`), code of others (`Package`), inputs made elsewhere (`Submitted`).

Their text is how names, tables and files spell them, ``[knows-]algorithm[-steps][@step_size]``, for example
``eot10-pgd-20@1/255``; ``read_attack`` reads it. Another attack is ``msgspec.structs.replace(attack,
steps=40)``. ``relaxed-`` before any of them that has gradients smooths operators which hide them
(``attacks.relaxation``).

Options follow as ``+option=value``. Attacks of other packages are ``torchattacks:NAME`` and
``autoattack:VERSION``, those of the user's own ``package.module:name`` and ``some/where/file.py:name``.
``from:SUBJECT/ATTACK`` are perturbed inputs made against another subject, which only an evaluation itself
can submit. Nothing here needs torch, so a wrong name is refused before anything is loaded.
"""

import dataclasses
import re
from collections.abc import Callable, Collection
from contextlib import suppress
from difflib import get_close_matches
from functools import lru_cache
from math import ceil, isfinite
from typing import Any, ClassVar, Literal, cast, get_args

from msgspec import Struct, structs

from attacks.algorithm import ALGORITHMS, AUTO_PGD, Algorithm, Cost, LossName
from attacks.norms import NORMS

Knows = Literal["fresh", "fixed", "aware", "transfer", "bpda", "submitted"]
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
        return self.knows not in ("transfer", "bpda") and not self.declared.asks_answers_alone

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
        algorithm, steps = self.declared.written, (self.steps or 1) * (self.restarts or 1)
        each_step = Cost(steps, 0 if algorithm.asks_answers_alone else steps)
        cost = each_step if algorithm.cost is None else algorithm.cost(self, randomised)
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
    multiples of 1/16, ``bits=8`` to those of 1/255. Committed runs also have ``shrunk`` (scaled), which
    is no longer submitted.

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


# More steps, draws or rounds than this are a typing error.
LARGEST_NUMBER = 1_000_000
LOSSES = get_args(LossName)
BESIDE_STEPS = ("steps", "step_size")  # of what algorithms take, what is no option

# What names say beside the algorithm, for lists and for suggestions.
GRAMMAR = {
    "pgd-100": "100 steps, of eps/8 instead of eps/4",
    "pgd-100@1/255": "100 steps of a stated size",
    "pgd-100+momentum=1": "follows the gradients of all steps so far, and of all draws (arXiv 1710.06081)",
    "pgd-10+restarts=5": "the best of 5 random starts, chosen on the attacker's own draws",
    "pgd-10+start=clean": "from the clean image instead of a random point",
    "pgd-10+target=3": "towards class 3; every attack of this package takes a target",
    "eot10-pgd-20": "gradients averaged over 10 fresh draws each step (arXiv 1707.07397)",
    "eot10-pgd-20+loss=margin": "raises the margin loss instead of cross-entropy (or loss=dlr)",
    "fixed-pgd-10": "one surrogate draw for the whole attack",
    "aware-pgd-10": "knows the draw it is scored on; a separate attack for each",
    "aware-pgd-20+init=transfer-pgd-20": "goes on from another attack's result",
    "transfer-pgd-20": "gradients of the base model",
    "bpda-pgd-20": "the defence forwards, the base model's gradient backwards (arXiv 1802.00420)",
    "relaxed-pgd-20": "the defence as it is, operators that hide its gradient smooth backwards",
    "relaxed-eot4-apgd-ce-50": "the same on 4 draws; relaxed- goes before any of these",
    "torchattacks:PGD+steps=10": "an attack of the torchattacks package, with its constructor's options",
    "my_module:MyAttack+steps=10": "a class or function of your own (docs/your-attack.md)",
    "autoattack:standard": "pyautoattack: " + ", ".join(AUTOATTACK),
}


def examples() -> dict[str, Algorithm]:
    """A name for each algorithm."""
    return {str(Attack(e.name, e.example if "steps" in e.takes else None)): e for e in ALGORITHMS.values()}


_NAME = re.compile(
    r"(?P<relaxed>relaxed-)?"
    r"(?:(?:eot(?P<eot>[1-9][0-9]*)|(?P<knows>fixed|aware|transfer|bpda))-)?"
    rf"(?P<algorithm>{'|'.join(sorted(ALGORITHMS, key=len, reverse=True))})"  # the longer one first
    r"(?:-(?P<steps>[1-9][0-9]*))?"
    r"(?:@(?P<step_size>[^+]+))?"
    r"(?P<options>(?:\+[a-z_]+=[^+]+)*)"
)
_THIRD_PARTY = re.compile(
    r"(?P<package>torchattacks|autoattack):(?P<name>[^+]+)(?P<options>(?:\+[A-Za-z_]+=[^+]+)*)"
)
_IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_]*"
_PLUGIN = re.compile(
    rf"(?P<name>(?:{_IDENTIFIER}(?:\.{_IDENTIFIER})*|[^+:]+\.py):{_IDENTIFIER})"
    rf"(?P<options>(?:\+{_IDENTIFIER}=[^+]+)*)"
)
_TRANSFORM = re.compile(r"\+(?P<option>shrunk|levels|bits)=(?P<value>[^+]*)$")
_VALUES = {"shrunk": r"0\.[0-9]{1,4}", "levels": "[1-9][0-9]{0,2}", "bits": "8"}


@lru_cache(maxsize=4096)  # statistics read the names of all rows for each judgement
def read_attack(text: str) -> AnyAttack:
    """Reads one attack's name; its text is that name again, with options in their usual order.

    Raises:
        ValueError: one line: what is wrong, and known names that come close.
    """
    text = text.strip()
    if text.startswith(PREFIX):
        return _submitted(text)
    if match := _THIRD_PARTY.fullmatch(text):
        package, name = cast(Any, match["package"]), match["name"]
        known = AUTOATTACK if package == "autoattack" else (*TORCHATTACKS_LINF, *TORCHATTACKS_L2)
        if name not in known:
            raise ValueError(f"expected an attack of {package}, got {name!r}; {_closest(name, known)}")
        return Package(package, name, _split(match["options"], text))
    if match := _PLUGIN.fullmatch(text):
        return Package("plugin", match["name"], _split(match["options"], text))
    if match := _NAME.fullmatch(text):
        return _checked(_ours(text, match), text)
    raise ValueError(f"expected an attack's name, got {text!r}; {_closest(text)}")


def read_runnable(text: str) -> Runnable:
    """The same for an attack that can be asked for.

    Raises:
        ValueError: also for inputs that are submitted.
    """
    attack = read_attack(text)
    if isinstance(attack, Submitted):
        why = "perturbed inputs of other subjects are submitted by the evaluation itself"
        raise ValueError(f"expected an attack that can be run, got {text!r}: {why}")
    return attack


def read_changed(text: str, **changes: Any) -> Runnable:
    """The attack of a name that may lack its number of steps, with these fields in the place of its own.

    Raises:
        ValueError: this is no attack.
    """
    match = _NAME.fullmatch(text.strip()) if changes else None
    return read_runnable(str(structs.replace(_ours(text, match), **changes)) if match else text)


def _submitted(text: str) -> Submitted:
    subject, slash, attack = text.removeprefix(PREFIX).partition("/")
    if not subject or not slash or not attack:
        raise ValueError(f"expected from:SUBJECT/ATTACK, got {text!r}")
    transforms: Options = ()
    while match := _TRANSFORM.search(attack):
        option, value = match["option"], match["value"]
        if re.fullmatch(_VALUES[option], value) is None:
            raise ValueError(f"expected levels=16 or bits=8, got {text!r}")
        transforms = ((option, value), *transforms)
        attack = attack[: match.start()]
    return Submitted(subject, None if attack == SEVERAL else read_attack(attack), transforms)


def _ours(text: str, match: re.Match[str]) -> Attack:
    return Attack(
        match["algorithm"],
        _count(match["steps"], text),
        cast(Any, match["knows"] or "fresh"),
        _count(match["eot"], text),
        bool(match["relaxed"]),
        _step_size(match["step_size"], text) if match["step_size"] else None,
        **_options(match["options"], ALGORITHMS[match["algorithm"]], text),
    )


def _checked(attack: Attack, text: str) -> Attack:
    """The attack, if it makes sense."""
    declared, steps, algorithm = attack.declared, attack.steps, attack.algorithm
    if ("steps" in declared.takes) == (steps is None):
        rule = "a number of steps" if steps is None else "no number of steps"
        raise ValueError(f"expected {rule} after {algorithm}, got {text!r}; {_closest(text)}")
    if declared.asks_answers_alone and attack.knows == "bpda":
        raise ValueError(f"expected an attack with gradients after bpda-, got {text!r}")
    if attack.relaxed and not attack.differentiates:
        raise ValueError(f"expected an attack with the defence's gradients after relaxed-, got {text!r}")
    if attack.step_size and "step_size" not in declared.takes:
        raise ValueError(f"expected no step size, which {algorithm} sets by itself, got {text!r}")
    if attack.start and (attack.init or (attack.restarts or 1) > 1):
        raise ValueError(f"expected start=clean, which is one start, or init or restarts, got {text!r}")
    if steps and steps < declared.fewest_steps:
        raise ValueError(f"expected {declared.fewest_steps} steps or more for {algorithm}, got {text!r}")
    return attack


def _count(number: str | None, text: str) -> int | None:
    if number is None:
        return None
    if len(number) > len(str(LARGEST_NUMBER)) or int(number) > LARGEST_NUMBER:
        raise ValueError(f"expected at most {LARGEST_NUMBER:,} steps or draws, got {text!r}")
    return int(number)


def _options(given: str, declared: Algorithm, text: str) -> dict[str, Any]:
    known = ("init", *(part for part in declared.takes if part not in BESIDE_STEPS), "target")
    options = dict(_split(given, text))
    if not options.keys() <= {*known}:
        raise ValueError(f"expected {' or '.join(known)} as an option, got {text!r}")
    return {option: _value(option, value, text) for option, value in options.items()}


# What options may be, in words and as a pattern, and how they are read; of others, a small whole number.
_OPTIONS: dict[str, tuple[str, str, Callable[[str], Any]]] = {
    "init": ("an attack of this package to start from", ".+", lambda text: read_attack(text)),
    "loss": (f"a loss out of {', '.join(LOSSES)}", "|".join(LOSSES), str),
    "start": ("clean as start", "clean", str),
    "momentum": ("a number from 0 to 1 for momentum", ".+", number_in),
    "apart": ("a number from 0 to 1 for apart", ".+", number_in),
    "target": ("the number of a class, from 0, for target", "0|[1-9][0-9]{0,5}", int),
}


def _value(option: str, value: str, text: str) -> Any:
    number = (f"a whole number below 10,000 for {option}", "[1-9][0-9]{0,3}", int)
    expected, pattern, read = _OPTIONS.get(option, number)
    if re.fullmatch(pattern, value):
        with suppress(*(() if option == "init" else (ValueError, ZeroDivisionError))):
            found = read(value)
            if isinstance(found, Attack | str | int) or (isinstance(found, float) and 0 <= found <= 1):
                return found
    raise ValueError(f"expected {expected}, got {text!r}")


def _split(given: str, text: str) -> Options:
    parts = (part.partition("=") for part in given.split("+") if part)
    options = tuple((option, value) for option, _, value in parts)
    if len(dict(options)) < len(options):
        raise ValueError(f"expected each option once, got {text!r}")
    return options


def _step_size(given: str, text: str) -> float:
    with suppress(ValueError, ZeroDivisionError):
        if isfinite(size := number_in(given)) and size > 0:
            return size
    raise ValueError(f"expected a step size above 0 such as 1/255 after @, got {text!r}")


def _closest(text: str, known: Collection[str] = ()) -> str:
    known = known or [*examples(), *GRAMMAR]
    dashed = re.sub(r"(?<=[a-z])-?(?=[0-9]+$)", "-", text.lower().replace("_", "-"))
    if dashed != text:  # pgd10
        with suppress(ValueError):
            return f"did you mean {read_attack(dashed)}?"
    written = {name.lower(): name for name in reversed([*known])}
    matches = get_close_matches(text.lower(), written, n=3, cutoff=0.5)
    # Two letters that changed places come first: pdg is pgd sooner than spgd.
    close = [written[near] for near in sorted(matches, key=lambda near: sorted(near) != sorted(text.lower()))]
    return f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join([*known][:6])}"


def refuse_norm(attack: AnyAttack, norm: str) -> None:
    """Raises ValueError where an attack does not know a norm."""
    if attack.init is not None:
        refuse_norm(attack.init, norm)
    known = attack.declared.norms
    if norm not in known:
        *others, last = (each.name for each in examples().values() if norm in each.norms)
        instead = f"{', '.join(others)} and {last}"
        raise ValueError(f"{attack} knows {' and '.join(known)}; for {norm} there are {instead}")
