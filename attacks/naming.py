"""The names of attacks: ``[estimator-]algorithm[-steps][@step_size]``, for example ``eot10-pgd-20@1/255``.

``relaxed-`` before any of them that has gradients smooths operators which hide them (``attacks.relaxation``).

Options follow as ``+option=value``. Attacks of other packages are ``torchattacks:NAME`` and
``autoattack:VERSION``. ``from:SUBJECT/ATTACK`` are perturbed inputs made against another subject, which only
an evaluation itself can submit (``attacks.submitted``). Nothing here needs torch, so a wrong name is refused
before anything is loaded.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from math import isfinite
from typing import Literal

from attacks import submitted
from attacks.catalogue import CATALOGUE, of_family
from attacks.misspelt import corrections

EstimatorName = Literal[
    "fresh",
    "fixed",
    "aware",
    "transfer",
    "bpda",
    "gmsaavg",
    "gmsamin",
    "eotauto",
    "submitted",
    "surrogate",
]
SUBMITTED: EstimatorName = "submitted"

# More steps, draws or rounds than this are a typing error.
LARGEST_NUMBER = 1_000_000

# A question to a randomised target that a surrogate learns from averages over so many fresh draws.
SURROGATE_DRAWS = 4

SEARCHES = of_family("search")
# They ask for labels, not for scores: of what an attacker may see this is the least.
DECISION_BASED = of_family("decision")
MINIMAL_NORM = of_family("nearest")
BLACK_BOX = of_family("search", "decision", "estimate")

LOSSES = ("ce", "margin", "dlr")

# Those that keep to an eps given to their constructor.
TORCHATTACKS_LINF = (
    "APGD", "APGDT", "BIM", "DIFGSM", "EOTPGD", "FAB", "FFGSM", "FGSM", "Jitter", "MIFGSM", "NIFGSM", "PGD",
    "PIFGSM", "PIFGSMPP", "RFGSM", "SINIFGSM", "SPSA", "Square", "TIFGSM", "TPGD", "UPGD", "VMIFGSM",
    "VNIFGSM",
)  # fmt: skip
TORCHATTACKS_L2 = ("APGD", "APGDT", "FAB", "PGDL2", "Square")
AUTOATTACK = (
    "standard",
    "plus",
    "rand",
    "apgd-ce",
    "apgd-dlr",
    "apgd-t",
    "fab",
    "fab-t",
    "square",
)

# What the adaptive presets run where a defence's operators hide its gradient, and nowhere else.
RELAXED = ("relaxed-pgd-20+momentum=1", "relaxed-eot4-apgd-ce-50")
# And where there is no gradient even then.
LAST_RESORT = ("square-1000",)

# What they run where other attacks leave something.
SECOND_STAGE = (
    "pgd-100+momentum=1",
    "aware-pgd-20+init=transfer-pgd-20",
    "apgd-mt-20",
    "transfer-apgd-mt-20",
    *RELAXED,
    *LAST_RESORT,
)

PRESETS: dict[str, tuple[str, ...]] = {
    "paper": ("fgsm", "pgd-10", "pgd-100"),
    "adaptive": (
        "eot10-pgd-20",
        "pgd-100+momentum=1",
        "fixed-pgd-10",
        "aware-pgd-10",
        "transfer-pgd-20",
        "aware-pgd-20+init=transfer-pgd-20",
        # The margin and other classes: what cross-entropy alone leaves on a robust network.
        "apgd-mt-20",
        "transfer-apgd-mt-20",
        *RELAXED,
        *LAST_RESORT,
    ),
    # AutoAttack's standard suite without FAB and with a fifth of Square's queries: those two take more than
    # half of its time and seldom break what targeted Auto-PGD has not broken.
    "aa": ("apgd-ce-100", "apgd-t-100", "square-1000"),
}
PRESETS["full"] = (
    *PRESETS["paper"],
    *PRESETS["adaptive"],
    "transfer-apgd-ce-100",
    "transfer-apgd-t-100",
    "eot20-apgd-ce-100",
    "aware-apgd-ce-50",
    "gmsa3avg-pgd-20",
    "gmsa3min-pgd-20",
    "bpda-pgd-20",
    "eotauto-pgd-20",
    *PRESETS["aa"],
    "apgd-dlr-100",
    "spsa-2000",
)

# What `csrobust list attacks` prints, in this order: a name to copy, and what it does.
LISTED: dict[str, str] = {
    "fgsm": "one step of eps from the clean input (arXiv 1412.6572)",
    "pgd-10": "10 steps of eps/4 from a random start, last iterate (arXiv 1706.06083)",
    "pgd-100": "100 steps of eps/8",
    "pgd-100@1/255": "100 steps of a stated size",
    "pgd-100+momentum=1": "follows the gradients of all steps so far, and of all draws (arXiv 1710.06081)",
    "pgd-10+restarts=5": "the best of 5 random starts, chosen on the attacker's own draws",
    "eot10-pgd-20+loss=margin": "raises the margin loss instead of cross-entropy (or loss=dlr)",
    "eot10-pgd-20": "gradients averaged over 10 fresh draws each step (arXiv 1707.07397)",
    "eotauto-pgd-20": "as many draws as still make the gradients agree better",
    "fixed-pgd-10": "one surrogate draw for the whole attack",
    "aware-pgd-10": "knows the draw it is scored on; a separate attack for each",
    "transfer-pgd-20": "gradients of the base model",
    "bpda-pgd-20": "the defence forwards, the base model's gradient backwards (arXiv 1802.00420)",
    "surrogate-pgd-20": "gradients of a small network taught the defence's answers (arXiv 1602.02697)",
    "relaxed-pgd-20+momentum=1": "the defence as it is, operators that hide its gradient smooth backwards",
    "relaxed-eot4-apgd-ce-50": "the same for Auto-PGD on 4 draws; relaxed- goes before any of these",
    "gmsa3avg-pgd-20": "greedy model-space attack, 3 rounds, mean loss of the draws met (arXiv 2110.14735)",
    "gmsa3min-pgd-20": "the same, smallest loss of the draws met",
    "apgd-ce-100": "Auto-PGD on cross-entropy, 100 steps (arXiv 2003.01690)",
    "apgd-dlr-100": "Auto-PGD on the difference of logits ratio",
    "apgd-t-100": "Auto-PGD on the targeted ratio, 100 steps for each of up to 9 targets",
    "apgd-mt-20": "Auto-PGD on the margin, then towards 3 more classes, each run from the best point so far",
    "eot2-apgd-mt-20": "the same on the mean loss of 2 draws",
    "eot20-apgd-ce-100": "Auto-PGD whose step control and best point use the mean loss of 20 draws",
    "transfer-apgd-ce-100": "Auto-PGD on the base model",
    "aware-apgd-ce-50": "Auto-PGD that knows the scored draw",
    "aware-pgd-20+init=transfer-pgd-20": "goes on from another attack's result",
    "square-1000": "random squares, 1000 queries, no gradients (arXiv 1912.00049)",
    "random-1000": "1000 random points of the ball, the best one kept",
    "spsa-1000": "gradients from differences of 1000 queries (arXiv 1802.05666)",
    "rays-1000": "directions of signs, 1000 queries for labels alone (arXiv 2006.12792)",
    "hopskipjump-1000": "along the decision boundary, 1000 queries for labels alone (arXiv 1904.02144)",
    "fmn-100": "fast minimum norm: the nearest wrong answer in linf or l2 (arXiv 2102.12827)",
    "ddn-100": "decoupled direction and norm: the nearest wrong answer in l2 (arXiv 1811.09600)",
    "cw-1000": "Carlini and Wagner: the nearest wrong answer in l2 (arXiv 1608.04644)",
    "torchattacks:PGD+steps=10": "an attack of the torchattacks package, with its constructor's options",
    "my_module:MyAttack+steps=10": "a class or function of your own (docs/your-attack.md)",
    "autoattack:standard": "pyautoattack: " + ", ".join(AUTOATTACK),
}


# The words that names are made of.
WORDS = (*CATALOGUE, "fixed", "aware", "transfer", "bpda", "eotauto", "relaxed", "torchattacks", "autoattack")


def _names() -> re.Pattern[str]:
    algorithms = "|".join(sorted(CATALOGUE, key=len, reverse=True))  # the longer one first
    return re.compile(
        r"(?P<relaxed>relaxed-)?"
        r"(?:(?P<estimator>eot[1-9][0-9]*|eotauto|fixed|aware|transfer|bpda|surrogate|gmsa[1-9][0-9]*(?:avg|min))-)?"
        rf"(?P<algorithm>{algorithms})"
        r"(?:-(?P<steps>[1-9][0-9]*))?"
        r"(?:@(?P<step_size>[^+]+))?"
        r"(?P<options>(?:\+[a-z_]+=[^+]+)*)"
    )


_NAME = _names()
_THIRD_PARTY = re.compile(
    r"(?P<package>torchattacks|autoattack):(?P<name>[^+]+)(?P<options>(?:\+[A-Za-z_]+=[^+]+)*)"
)

_IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_]*"
_PLUGIN = re.compile(
    rf"(?P<name>{_IDENTIFIER}(?:\.{_IDENTIFIER})*:{_IDENTIFIER})(?P<options>(?:\+{_IDENTIFIER}=[^+]+)*)"
)


@dataclass(frozen=True)
class AttackName:
    """Attributes:
    text: the name as given, as stored in results.
    estimator: what the attacker knows.
    draws: fresh draws averaged in each query (M); 1 for the other estimators.
    rounds: of a greedy model-space attack, else 1.
    algorithm: a name of the ``CATALOGUE``, or a third-party package's name for it.
    steps: steps, or queries of a black-box attack; None for FGSM.
    step_size: in units of eps's space; None for the algorithm's default.
    third_party: the package an attack comes from, "torchattacks" or "autoattack"; "plugin" for one of the
        user's own, whose algorithm is ``package.module:name``; None for one of ours.
    options: ``(option, value)`` in the order given, as text.
    relaxed: whether operators that hide the gradient have a smooth backward.
    """

    text: str
    estimator: EstimatorName
    draws: int
    rounds: int
    algorithm: str
    steps: int | None
    step_size: float | None
    third_party: str | None = None
    options: tuple[tuple[str, str], ...] = ()
    relaxed: bool = False

    @property
    def is_submitted(self) -> bool:
        """Whether its perturbed inputs were made against another subject, or by another attack."""
        return self.estimator == SUBMITTED

    @property
    def uses_base(self) -> bool:
        """Whether it needs the base model."""
        init = self.init
        return self.estimator in ("transfer", "bpda") or (init is not None and init.uses_base)

    @property
    def differentiates(self) -> bool:
        """Whether it asks for gradients of the defence itself."""
        if self.estimator in ("transfer", "bpda", "surrogate", SUBMITTED) or self.algorithm in BLACK_BOX:
            return False
        return self.algorithm.lower() not in ("square", "spsa")

    @property
    def init(self) -> "AttackName | None":
        """The attack whose result this one continues from."""
        text = dict(self.options).get("init")
        return None if text is None else parse(text)


@lru_cache(maxsize=4096)  # statistics read the names of all rows for each judgement
def parse(text: str) -> AttackName:
    """Reads one attack's name.

    Raises:
        ValueError: one line: what is wrong, and known names that come close.
    """
    text = text.strip()
    if text.startswith(submitted.PREFIX):
        _, attack, transforms = submitted.split_submitted(text)
        if attack != submitted.SEVERAL:
            parse(attack)
        return AttackName(text, SUBMITTED, 1, 1, SUBMITTED, None, None, options=transforms)
    if match := _THIRD_PARTY.fullmatch(text):
        return _parse_third_party(text, match)
    if match := _PLUGIN.fullmatch(text):
        options = _split(match["options"], text)
        return AttackName(text, "fresh", 1, 1, match["name"], _steps_given(options), None, "plugin", options)
    match = _NAME.fullmatch(text)
    if not match:
        raise ValueError(f"expected an attack's name, got {text!r}; {_closest(text, LISTED)}")
    algorithm, estimator = match["algorithm"], match["estimator"] or ""
    if (algorithm == "fgsm") != (match["steps"] is None):
        rule = "no number of steps" if algorithm == "fgsm" else "a number of steps"
        raise ValueError(f"expected {rule} after {algorithm}, got {text!r}; {_closest(text, LISTED)}")
    if algorithm in BLACK_BOX and estimator.startswith(("bpda", "gmsa", "eotauto", "surrogate")):
        raise ValueError(f"expected an attack with gradients after {estimator}-, got {text!r}")
    if match["relaxed"] and (algorithm in BLACK_BOX or estimator in ("transfer", "bpda", "surrogate")):
        raise ValueError(f"expected an attack with the defence's gradients after relaxed-, got {text!r}")
    if match["step_size"] and CATALOGUE[algorithm].sets_step:
        raise ValueError(f"expected no step size, which {algorithm} sets by itself, got {text!r}")
    numbers = re.findall("[0-9]+", f"{estimator} {match['steps'] or ''}")
    if any(len(number) > len(str(LARGEST_NUMBER)) or int(number) > LARGEST_NUMBER for number in numbers):
        raise ValueError(f"expected at most {LARGEST_NUMBER:,} steps or draws, got {text!r}")
    fewest = CATALOGUE[algorithm].fewest_steps
    if match["steps"] and int(match["steps"]) < fewest:
        raise ValueError(f"expected {fewest} queries or more for {algorithm}, got {text!r}")
    draws, rounds = 1, 1
    kind: EstimatorName = "fresh"
    if estimator in ("fixed", "aware", "transfer", "bpda", "eotauto", "surrogate"):
        kind = estimator  # type: ignore[assignment]
        draws = SURROGATE_DRAWS if kind == "surrogate" else 1
    elif estimator.startswith("eot"):
        draws = int(estimator[3:])
    elif estimator.startswith("gmsa"):
        kind, rounds = ("gmsaavg" if estimator.endswith("avg") else "gmsamin"), int(estimator[4:-3])
    else:
        draws = CATALOGUE[algorithm].draws
    return AttackName(
        text,
        kind,
        draws,
        rounds,
        algorithm,
        int(match["steps"]) if match["steps"] else None,
        _step_size(match["step_size"], text) if match["step_size"] else None,
        options=_options(match["options"], algorithm, text),
        relaxed=bool(match["relaxed"]),
    )


def expand(text: str) -> tuple[AttackName, ...]:
    """Reads a comma-separated list of names and presets; repeated names are dropped.

    Raises:
        ValueError: a name that is unknown, or none at all.
    """
    names: dict[str, AttackName] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        for name in PRESETS.get(part, (part,)):
            try:
                names.setdefault(name, parse(name))
            except ValueError as error:
                if preset := get_close_matches(part.lower(), PRESETS, n=1, cutoff=0.7):
                    hint = f"did you mean {preset[0]}?"
                    raise ValueError(f"expected an attack's name, got {part!r}; {hint}") from None
                if part.isalpha():
                    raise ValueError(f"{error}; presets: {', '.join(PRESETS)}") from None
                raise
            if names[name].is_submitted:
                raise ValueError(
                    f"expected an attack that can be run, got {part!r}: perturbed inputs of other subjects "
                    "are submitted by the evaluation itself"
                )
    if not names:
        raise ValueError(f"expected names of attacks divided by commas, got {text!r}")
    return tuple(names.values())


def _parse_third_party(text: str, match: re.Match[str]) -> AttackName:
    package, name = match["package"], match["name"]
    known = AUTOATTACK if package == "autoattack" else (*TORCHATTACKS_LINF, *TORCHATTACKS_L2)
    if name not in known:
        raise ValueError(f"expected an attack of {package}, got {name!r}; {_closest(name, known)}")
    options = _split(match["options"], text)
    return AttackName(text, "fresh", 1, 1, name, _steps_given(options), None, package, options)


def _steps_given(options: tuple[tuple[str, str], ...]) -> int | None:
    """The option ``steps`` of another's attack, if it has one that is a count."""
    given = dict(options).get("steps", "")
    return int(given) if re.fullmatch(r"[1-9][0-9]{0,6}", given) else None


def _options(given: str, algorithm: str, text: str) -> tuple[tuple[str, str], ...]:
    options = _split(given, text)
    for option, value in options:
        if option not in CATALOGUE[algorithm].options:
            raise ValueError(
                f"expected {' or '.join(CATALOGUE[algorithm].options)} as an option, got {text!r}"
            )
        if option in ("restarts", "targets") and not re.fullmatch("[1-9][0-9]{0,3}", value):
            raise ValueError(f"expected a whole number below 10,000 for {option}, got {text!r}")
        if option == "momentum" and not re.fullmatch(r"0?\.[0-9]{1,6}|1(\.0)?", value):
            raise ValueError(f"expected a momentum from 0 to 1, got {text!r}")
        if option == "loss" and value not in LOSSES:
            raise ValueError(f"expected a loss out of {', '.join(LOSSES)}, got {text!r}")
        if option == "own" and value not in ("signs", "exact"):
            raise ValueError(f"expected own=signs or own=exact, got {text!r}")
        if option == "init" and parse(value).third_party is not None:
            raise ValueError(f"expected an attack of this package to start from, got {text!r}")
    return options


def _split(given: str, text: str) -> tuple[tuple[str, str], ...]:
    options = tuple((part.split("=", 1)[0], part.split("=", 1)[1]) for part in given.split("+") if part)
    if len(dict(options)) < len(options):
        raise ValueError(f"expected each option once, got {text!r}")
    return options


def _step_size(given: str, text: str) -> float:
    over, _, under = given.partition("/")
    try:
        size = float(over) / float(under or 1)
    except (ValueError, ZeroDivisionError):
        size = 0.0
    if not isfinite(size) or size <= 0:
        raise ValueError(f"expected a step size above 0 such as 1/255 after @, got {text!r}")
    return size


def _well_formed(text: str) -> bool:
    """Whether a text has the form of a name of ours, its options aside."""
    match = _NAME.fullmatch(text)
    return match is not None and (match["algorithm"] == "fgsm") == (match["steps"] is None)


def _closest(text: str, known: Collection[str]) -> str:
    likely = [*filter(_well_formed, corrections(text, WORDS)), *known]
    written = {name.lower(): name for name in reversed(likely)}
    close = [written[near] for near in get_close_matches(text.lower(), written, n=3, cutoff=0.5)]
    return f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join([*known][:6])}"
