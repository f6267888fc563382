"""Names of perturbed inputs that were made against one subject and are submitted to another.

    from:SUBJECT/ATTACK[+shrunk=FACTOR][+bits=8]

SUBJECT is a defence, ``standard`` or ``rci:N=190``, with ``@CHECKPOINT`` behind it where its checkpoint is
another than the target's. ATTACK is the attack that made the perturbations, or ``ensemble``: the target takes
the worst of several. ``shrunk`` scales each perturbation, ``bits=8`` rounds the perturbed pixels to multiples
of 1/255.
"""

import re
from collections.abc import Sequence

PREFIX = "from:"
SHRUNK = "shrunk"
BITS = "bits"
EIGHT_BITS = (BITS, "8")
SEVERAL = "ensemble"  # in place of an attack: the worst of several

_TRANSFORM = re.compile(r"\+(?P<option>shrunk|bits)=(?P<value>[^+]*)$")

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
        fits = value == "8" if option == BITS else re.fullmatch(r"0\.[0-9]{1,4}", value) is not None
        if not fits:
            raise ValueError(f"expected shrunk=0.5 or bits=8, a factor below 1, got {text!r}")
        transforms = ((option, value), *transforms)
        attack = attack[: match.start()]
    return subject, attack, transforms
