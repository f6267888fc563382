"""The names of attacks: ``[estimator-]algorithm[-steps][@step_size]``, for example ``eot10-pgd-20@1/255``.

``relaxed-`` before any of them that has gradients smooths operators which hide them (``attacks.relaxation``).

Options follow as ``+option=value``. Attacks of other packages are ``torchattacks:NAME`` and
``autoattack:VERSION``, those of the user's own ``package.module:name`` and ``some/where/file.py:name``.
``from:SUBJECT/ATTACK`` are perturbed inputs made against another subject, which only an evaluation itself
can submit (``attacks.attack_name``). Nothing here needs torch, so a wrong name is refused before anything is
loaded.
"""

import re
from collections.abc import Collection
from contextlib import suppress
from difflib import get_close_matches
from functools import lru_cache
from math import isfinite
from typing import get_args

from attacks import attack_name
from attacks.attack_name import SUBMITTED, WITHOUT_GRADIENTS, AttackName, EstimatorName, LossName
from attacks.catalogue import (
    AUTOATTACK,
    CATALOGUE,
    TORCHATTACKS_L2,
    TORCHATTACKS_LINF,
    stand_in,
    traits_elsewhere,
)
from attacks.presets import LISTED, PRESETS

# More steps, draws or rounds than this are a typing error.
LARGEST_NUMBER = 1_000_000

# A question to a randomised target that a surrogate learns from averages over so many fresh draws.
SURROGATE_DRAWS = 4

LOSSES = get_args(LossName)
ALWAYS = ("target",)  # options of every algorithm of ours


def _names() -> re.Pattern[str]:
    algorithms = "|".join(sorted(CATALOGUE, key=len, reverse=True))  # the longer one first
    return re.compile(
        r"(?P<relaxed>relaxed-)?"
        r"(?:(?P<estimator>eot[1-9][0-9]*|fixed|aware|transfer|bpda|surrogate)-)?"
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
    rf"(?P<name>(?:{_IDENTIFIER}(?:\.{_IDENTIFIER})*|[^+:]+\.py):{_IDENTIFIER})"
    rf"(?P<options>(?:\+{_IDENTIFIER}=[^+]+)*)"
)


@lru_cache(maxsize=4096)  # statistics read the names of all rows for each judgement
def parse(text: str) -> AttackName:
    """Reads one attack's name.

    Raises:
        ValueError: one line: what is wrong, and known names that come close.
    """
    text = text.strip()
    if text.startswith(attack_name.PREFIX):
        _, attack, transforms = attack_name.split_submitted(text)
        if attack != attack_name.SEVERAL:
            parse(attack)
        return AttackName(text, SUBMITTED, 1, SUBMITTED, None, None, options=transforms)
    if match := _THIRD_PARTY.fullmatch(text):
        return _parse_third_party(text, match)
    if match := _PLUGIN.fullmatch(text):
        options = _split(match["options"], text)
        return _of_another(text, match["name"], "plugin", options)
    match = _NAME.fullmatch(text)
    if not match:
        raise ValueError(f"expected an attack's name, got {text!r}; {_closest(text, LISTED)}")
    algorithm, estimator = match["algorithm"], match["estimator"] or ""
    entry = CATALOGUE[algorithm]
    if entry.takes_steps == (match["steps"] is None):
        rule = "a number of steps" if entry.takes_steps else "no number of steps"
        raise ValueError(f"expected {rule} after {algorithm}, got {text!r}; {_closest(text, LISTED)}")
    blind = entry.family in WITHOUT_GRADIENTS
    if blind and estimator in ("bpda", "surrogate"):
        raise ValueError(f"expected an attack with gradients after {estimator}-, got {text!r}")
    if match["relaxed"] and (blind or estimator in ("transfer", "bpda", "surrogate")):
        raise ValueError(f"expected an attack with the defence's gradients after relaxed-, got {text!r}")
    if match["step_size"] and entry.sets_step:
        raise ValueError(f"expected no step size, which {algorithm} sets by itself, got {text!r}")
    numbers = re.findall("[0-9]+", f"{estimator} {match['steps'] or ''}")
    if any(len(number) > len(str(LARGEST_NUMBER)) or int(number) > LARGEST_NUMBER for number in numbers):
        raise ValueError(f"expected at most {LARGEST_NUMBER:,} steps or draws, got {text!r}")
    if match["steps"] and int(match["steps"]) < entry.fewest_steps:
        raise ValueError(f"expected {entry.fewest_steps} queries or more for {algorithm}, got {text!r}")
    draws = 1
    kind: EstimatorName = "fresh"
    if estimator in ("fixed", "aware", "transfer", "bpda", "surrogate"):
        kind = estimator  # type: ignore[assignment]
        draws = SURROGATE_DRAWS if kind == "surrogate" else 1
    elif estimator.startswith("eot"):
        draws = int(estimator[3:])
    else:
        draws = entry.draws
    options = _options(match["options"], algorithm, text)
    return AttackName(
        text,
        kind,
        draws,
        algorithm,
        int(match["steps"]) if match["steps"] else None,
        _step_size(match["step_size"], text) if match["step_size"] else None,
        options=options,
        relaxed=bool(match["relaxed"]),
        traits=entry,
        init=parse(dict(options)["init"]) if "init" in dict(options) else None,
    )


def with_options(
    name: str,
    *,
    steps: int | None = None,
    step_size: float | str | None = None,
    eot: int | None = None,
    loss: str | None = None,
) -> str:
    """An attack's name with these parts in it: ``pgd``, 10 steps, 4 draws of EOT is ``eot4-pgd-10``."""
    before, plus, options = name.strip().partition("+")
    algorithm, at, size = before.partition("@")
    if steps is not None:
        algorithm = f"{re.sub('-[0-9]+$', '', algorithm)}-{steps}"
    if eot is not None:
        algorithm = f"eot{eot}-{re.sub('^eot[0-9]+-', '', algorithm)}"
    if step_size is not None:
        at, size = "@", str(step_size)
    if loss is not None:
        parts = [part for part in options.split("+") if part and not part.startswith("loss=")]
        plus, options = "+", "+".join([*parts, f"loss={loss}"])
    return f"{algorithm}{at}{size}{plus}{options}"


def suited(text: str, norm: str) -> str:
    """The attack of a name; in l0, if it does not know that norm, one of the same kind that does.

    Those with gradients become sparse PGD, on the margin where theirs was not the cross-entropy; those
    without become Sparse-RS. What surrounds the algorithm stays: estimator, start and target.
    """
    name = parse(text)
    known = CATALOGUE.get(name.algorithm)
    if norm != "l0" or known is None or name.third_party is not None or norm in known.norms:
        return text
    instead = stand_in(known, norm)
    options = dict(name.options)
    parts = {"target": options["target"]} if "target" in options else {}
    if name.init is not None:
        parts["init"] = suited(name.init.text, norm)
    if "loss" in CATALOGUE[instead].options and options.get("loss", known.loss) != "ce":
        parts["loss"] = "margin"
    before = text[: text.index(name.algorithm)]
    return f"{before}{instead}-{name.steps or 20}" + "".join(f"+{k}={v}" for k, v in parts.items())


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
            if (entry := CATALOGUE.get(names[name].algorithm)) is not None and not entry.module:
                raise ValueError(f"expected an attack that can be run, got {part!r}, which no longer is")
            if names[name].estimator == "submitted":
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
    return _of_another(text, name, package, options)


def _of_another(text: str, name: str, package: str, options: tuple[tuple[str, str], ...]) -> AttackName:
    traits = traits_elsewhere(package, name)
    return AttackName(text, "fresh", 1, name, _steps_given(options), None, package, options, traits=traits)


def _steps_given(options: tuple[tuple[str, str], ...]) -> int | None:
    """The option ``steps`` of another's attack, if it has one that is a count."""
    given = dict(options).get("steps", "")
    return int(given) if re.fullmatch(r"[1-9][0-9]{0,6}", given) else None


def _options(given: str, algorithm: str, text: str) -> tuple[tuple[str, str], ...]:
    options = _split(given, text)
    for option, value in options:
        known = (*CATALOGUE[algorithm].options, *ALWAYS)
        if option not in known:
            raise ValueError(f"expected {' or '.join(known)} as an option, got {text!r}")
        if option == "target" and not re.fullmatch("0|[1-9][0-9]{0,5}", value):
            raise ValueError(f"expected the number of a class, from 0, for target, got {text!r}")
        if option in ("restarts", "targets") and not re.fullmatch("[1-9][0-9]{0,3}", value):
            raise ValueError(f"expected a whole number below 10,000 for {option}, got {text!r}")
        if option in ("momentum", "apart") and not re.fullmatch(r"0?\.[0-9]{1,6}|1(\.0)?", value):
            raise ValueError(f"expected a number from 0 to 1 for {option}, got {text!r}")
        if option == "loss" and value not in LOSSES:
            raise ValueError(f"expected a loss out of {', '.join(LOSSES)}, got {text!r}")
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


def _closest(text: str, known: Collection[str]) -> str:
    dashed = re.sub(r"(?<=[a-z])-?(?=[0-9]+$)", "-", text.lower().replace("_", "-"))
    if dashed != text:  # pgd10
        with suppress(ValueError):
            return f"did you mean {parse(dashed).text}?"
    written = {name.lower(): name for name in reversed([*known])}
    matches = get_close_matches(text.lower(), written, n=3, cutoff=0.5)
    # Two letters that changed places come first: pdg is pgd sooner than pdpgd.
    close = [written[near] for near in sorted(matches, key=lambda near: sorted(near) != sorted(text.lower()))]
    return f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join([*known][:6])}"
