"""What names and presets among ``--attacks`` stand for: each attack, and where it runs."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from attacks.naming import expand, suited
from attacks.presets import LAST_RESORT, ON_VICTIMS, PRESETS, RELAXED, SCREENED, SECOND_STAGE, TRANSFER
from robustbench_coded.errors import InputError
from robustbench_coded.schema.words import CONTROLS

DEFAULT = ("paper", "adaptive")
IN_L0 = ("sparse",)
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
    return any(part in PRESETS and part != "paper" for part in parts)


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
    if typed and not parts:
        raise InputError(f"--attacks {','.join(typed)}: this always runs; name an attack besides, as fgsm")
    try:
        names = [name.text for name in expand(",".join(parts))] if parts else []
    except ValueError as error:
        raise InputError(f"--attacks: {error}") from error
    # What a person names, or another preset has, runs whatever the defence is like; `full` means all of it.
    always = {"adaptive": (), "full": LAST_RESORT}
    written = {name for part in parts for name in always.get(part, PRESETS.get(part, (part,)))}
    if claimed is not None:
        written.add(claimed)
        names.append(claimed)
    victims = [suited(name, norm) for name in ON_VICTIMS] if is_adaptive(texts, norm) else []
    return {
        name: Request(
            on_batches=name in names,
            on_victims=name in victims,
            if_hidden=name in (*RELAXED, *LAST_RESORT) and name in names and name not in written,
            if_open=name in SECOND_STAGE and name in names and name not in written and "full" not in parts,
        )
        for name in dict.fromkeys((*names, *victims))
    }


def _default(norm: str) -> tuple[str, ...]:
    return IN_L0 if norm == "l0" else DEFAULT


def _screened(norm: str) -> dict[str, Request]:
    hidden = suited(RELAXED[0], norm)
    return {
        name: Request(on_victims=name == suited(TRANSFER, norm), if_hidden=name == hidden)
        for name in (suited(name, norm) for name in SCREENED)
    }
