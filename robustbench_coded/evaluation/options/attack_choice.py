"""What the requested names of attacks and presets mean for an evaluation."""

from collections.abc import Sequence
from typing import Any

from attacks.naming import expand, parse
from attacks.presets import LAST_RESORT, PRESETS, RELAXED, SECOND_STAGE
from robustbench_coded.errors import InputError

DEFAULT = ("paper", "adaptive")
# What the adaptive presets also run against one victim among clean co-batched inputs.
VICTIM_ATTACKS = ("transfer-pgd-20",)


def attack_options(
    texts: Sequence[str] = DEFAULT, *, checks: bool = False, claimed: str | None = None
) -> dict[str, Any]:
    """The fields ``attacks``, ``victim_attacks``, ``relaxed_attacks``, ``second_attacks`` and ``checks`` of a
    configuration.

    Args:
        texts: names and presets, each one or several divided by commas; none for the default.
        checks: run the attacks of the checks even where no adaptive preset was asked for.
        claimed: the attack that a claim is about, which runs whatever else is asked for.
    Raises:
        InputError: an unknown name.
    """
    parts = [part.strip() for text in texts or DEFAULT for part in text.split(",")]
    if "" in parts:
        raise InputError(
            f"--attacks {','.join(texts)!r} has an empty name; write names divided by single commas"
        )
    try:
        names = tuple(name.text for name in expand(",".join(parts)))
    except ValueError as error:
        raise InputError(f"--attacks: {error}") from error
    # What a person names, or another preset has, runs whatever the defence is like.
    written = {name for part in parts for name in _named(part)}
    if claimed is not None:
        try:
            name = parse(claimed).text
        except ValueError as error:
            raise InputError(f"--claim-attack: {error}") from error
        names = tuple(dict.fromkeys((*names, name)))
        written.add(name)
    adaptive = any(part in PRESETS and part != "paper" for part in parts)
    return {
        "attacks": names,
        "relaxed_attacks": tuple(
            name for name in (*RELAXED, *LAST_RESORT) if name in names and name not in written
        ),
        # `full` means all of it.
        "second_attacks": tuple(
            name for name in SECOND_STAGE if name in names and name not in written and "full" not in parts
        ),
        "victim_attacks": VICTIM_ATTACKS if adaptive else (),
        "checks": checks or adaptive,
    }


def _named(part: str) -> tuple[str, ...]:
    """The attacks that a name or a preset runs on every defence."""
    if part == "adaptive":
        return ()
    return LAST_RESORT if part == "full" else PRESETS.get(part, (part,))
