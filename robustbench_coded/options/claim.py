"""``--claim "72% pgd-10 batch/unknown eps=8/255 votes=5"``: a claimed accuracy, and what it is about."""

from typing import Any

from attacks.attack import read_runnable
from robustbench_coded.errors import InputError
from robustbench_coded.options.option import check_value, count
from robustbench_coded.options.values import as_fraction, fraction, radius
from robustbench_coded.schema.case import INPUTS, RANDOMNESS, StatedClaim, ThreatModel


def read_claim(text: object, flag: str) -> StatedClaim:
    """A claim as it is typed: the accuracy, then in any order an attack, a threat model, a radius, votes.

    Raises:
        InputError: a part is none of these.
    """
    accuracy, *parts = str(text).split() or [""]
    said: dict[str, Any] = {"value": _accuracy(accuracy, flag)}
    for part in parts:
        name, _, value = part.partition("=")
        if name not in ("eps", "votes"):
            name = "threat" if part in INPUTS or ("/" in part and not {"@", ":"} & {*part}) else "attack"
        if name in said:
            raise InputError(f"{flag}: {part} is its second {name}; a claim is about one")
        if name == "eps":
            said[name] = radius(value, f"{flag} eps")
        elif name == "votes":
            said[name] = int(value) if value.isdecimal() else value
            check_value(f"{flag} votes", said[name], count(2, 10_000))
        elif name == "threat":
            said[name] = _threat(part, flag)
        else:
            try:
                said[name] = str(read_runnable(part))
            except ValueError as error:
                raise InputError(f"{flag}: {error}") from error
    return StatedClaim(**said)


def as_claim(claim: StatedClaim) -> str:
    """A claim as `read_claim` reads it."""
    eps = "" if claim.eps is None else f"eps={as_fraction(claim.eps)}"
    votes = "" if claim.votes == 1 else f"votes={claim.votes}"
    return " ".join(filter(None, (repr(claim.value), claim.attack, claim.threat, eps, votes)))


def _accuracy(text: str, flag: str) -> float:
    """``0.72`` or ``72%`` as a fraction."""
    try:
        value = fraction(text.rstrip("%"), flag) / (100 if text.endswith("%") else 1)
    except InputError:
        value = -1.0
    if not 0 <= value <= 1:
        raise InputError(f"{flag} {text} is not an accuracy; write 0.72 or 72%")
    return value


def _threat(text: str, flag: str) -> str:
    try:
        return str(ThreatModel.parse(text))
    except ValueError:
        known = f"{', '.join(INPUTS)}, a slash, and {' or '.join(RANDOMNESS)}: batch/unknown"
        raise InputError(f"{flag}: {text} is no threat model; write one of {known}") from None
