"""Names of perturbed inputs that were made against one subject and are submitted to another.

    from:SUBJECT/ATTACK[+shrunk=FACTOR][+uneven=SEED][+slots=SHARE][+levels=L][+bits=8]

SUBJECT is a defence, ``standard`` or ``rci:N=190``, with ``@CHECKPOINT`` behind it where its checkpoint is
another than the target's. ATTACK is the attack that made the perturbations, or ``ensemble``: the target takes
the worst of several. ``shrunk`` scales each perturbation, ``uneven`` every value of it by a factor of its
own, ``slots=0.5`` leaves the inputs in half of each batch's slots clean, ``levels=16`` rounds the perturbed
pixels to multiples of 1/16, ``bits=8`` to those of 1/255.
"""

import re
from collections.abc import Sequence

PREFIX = "from:"
SHRUNK = "shrunk"
UNEVEN = "uneven"
SLOTS = "slots"
LEVELS = "levels"
BITS = "bits"
EIGHT_BITS = (BITS, "8")
SEVERAL = "ensemble"  # in place of an attack: the worst of several

_TRANSFORM = re.compile(r"\+(?P<option>shrunk|uneven|slots|levels|bits)=(?P<value>[^+]*)$")

_VALUES = {
    SHRUNK: r"0\.[0-9]{1,4}",
    UNEVEN: r"[0-9]{1,4}",
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
            raise ValueError(
                f"expected shrunk=0.5 (below 1), uneven=1, slots=0.5, levels=16 or bits=8, got {text!r}"
            )
        transforms = ((option, value), *transforms)
        attack = attack[: match.start()]
    return subject, attack, transforms
