"""Threat models: what the attacker controls and knows (the budget is named beside them)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from robustbench_coded.errors import InputError

INPUTS = ("batch", "victim", "co-batch", "collateral")
RANDOMNESS = ("unknown", "known")
_COLLATERAL = re.compile(r"collateral-([1-9][0-9]{0,5})(-box)?")


@dataclass(frozen=True)
class ThreatModel:
    """Which inputs of a batch are the attacker's, and whether the defence's draw is known to it.

    Attributes:
        inputs: ``batch`` (all K inputs, each within eps), ``victim`` (one input within eps among clean
            ones), ``co-batch`` (one victim within eps, the others anywhere in the box), ``collateral-M`` (M
            inputs within eps, to harm those that are not touched and that alone are scored) or
            ``collateral-M-box`` (the same, anywhere in the box).
        randomness: ``unknown`` (the draw is made after the attack) or ``known`` (a new attack for each draw).
    """

    inputs: str
    randomness: str

    def __post_init__(self):
        if self.inputs not in INPUTS[:3] and not _COLLATERAL.fullmatch(self.inputs):
            raise InputError(f"--inputs {self.inputs!r} is not known; choose from {', '.join(INPUTS)}")
        if self.randomness not in RANDOMNESS:
            raise ValueError(f"expected randomness out of {', '.join(RANDOMNESS)}, got {self.randomness!r}")

    def __str__(self) -> str:
        return f"{self.inputs}/{self.randomness}"

    @property
    def one_victim(self) -> bool:
        """Whether each scored example is the victim of a batch of its own."""
        return self.inputs in ("victim", "co-batch")

    @property
    def malicious(self) -> int | None:
        """M of ``collateral-M``; None elsewhere."""
        match = _COLLATERAL.fullmatch(self.inputs)
        return int(match[1]) if match else None

    @property
    def free(self) -> bool:
        """Whether some inputs may go anywhere in the box."""
        return self.inputs == "co-batch" or self.inputs.endswith("-box")


def inputs_for(asked: Iterable[str], k: int) -> list[str]:
    """The inputs asked for, on batches of ``k``: ``collateral`` is M = 1, 2, 4 ... below K, both ways."""
    found: dict[str, None] = {}
    for inputs in asked:
        powers = [2**i for i in range(k.bit_length()) if 2**i < k] if inputs == "collateral" else []
        found |= dict.fromkeys(f"collateral-{m}{where}" for where in ("", "-box") for m in powers)
        malicious = None if inputs == "collateral" else ThreatModel(inputs, "unknown").malicious
        if inputs != "collateral" and (malicious is None or malicious < k):
            found[inputs] = None
    return list(found)


def check_inputs(asked: Iterable[str], eps: Iterable[float]) -> None:
    """Raises InputError for a word that ``--inputs`` does not know, or that makes no sense at eps 0."""
    for inputs in asked:
        free = inputs == "collateral" or ThreatModel(inputs, "unknown").free
        if free and 0.0 in eps:
            whom = "a co-batch attacker's victim" if inputs == "co-batch" else "collateral attackers"
            raise InputError(f"--eps 0 leaves {whom} where they are; give an eps above 0")
