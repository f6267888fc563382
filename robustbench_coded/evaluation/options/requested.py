"""What names and presets among ``--attacks`` stand for: each attack, and where it runs."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from attacks import presets
from robustbench_coded.errors import InputError
from robustbench_coded.schema.words import CONTROLS

SCREEN = "screen"  # the attacks of `csrobust screen`, which runs the first rungs of the protocol alone


class Request(NamedTuple):
    """Where an attack runs.

    Attributes:
        on_batches: on the requested inputs.
        on_victims: on one victim among clean co-batched inputs.
        if_hidden: only where an operator hides the gradient.
        if_open: only where the others leave something.
    """

    on_batches: bool = True
    on_victims: bool = False
    if_hidden: bool = False
    if_open: bool = False


def is_adaptive(texts: Sequence[str] | None, norm: str) -> bool:
    """True if a preset is named whose verdicts need the attacks that their checks ask for."""
    parts = _default(norm) if texts is None else texts
    return any(part in presets.PRESETS and part != "paper" for part in parts)


@lru_cache
def requested(texts: tuple[str, ...] | None, norm: str, claimed: str | None = None) -> dict[str, Request]:
    """Each attack by name, in the order of tables.

    Args:
        texts: names and presets; None for the default of the norm. ``clean`` and ``random-sign`` always run,
            named or not.
        claimed: the attack that a claim is about, which always runs.

    Raises:
        InputError: an unknown name.
    """
    if texts == (SCREEN,):
        return _screened(norm)
    typed = _default(norm) if texts is None else texts
    if "" in typed:
        raise InputError(
            f"--attacks {','.join(typed)!r} has an empty name; write names divided by single commas"
        )
    parts = [part for part in typed if part not in CONTROLS]
    if not parts:
        if typed:
            said = ",".join(typed)
            raise InputError(f"--attacks {said}: this always runs; name an attack besides, as fgsm")
        return {}
    try:
        found = presets.requested(parts, norm, claimed)
    except ValueError as error:
        raise InputError(f"--attacks: {error}") from error
    where = (found.attacks, found.victim_attacks, found.relaxed_attacks, found.second_attacks)
    every = dict.fromkeys((*found.attacks, *found.victim_attacks))
    return {name: Request(*(name in names for names in where)) for name in every}


def _default(norm: str) -> tuple[str, ...]:
    return presets.IN_L0 if norm == "l0" else presets.DEFAULT


def _screened(norm: str) -> dict[str, Request]:
    transfer, hidden = presets.in_norm((presets.TRANSFER, presets.RELAXED[0]), norm)
    return {
        name: Request(on_victims=name == transfer, if_hidden=name == hidden)
        for name in presets.in_norm(presets.SCREENED, norm)
    }
