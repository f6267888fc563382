"""Threat models: what the attacker controls and knows (the budget is named beside them)."""

from dataclasses import dataclass

from robustbench_coded.errors import InputError

INPUTS = ("batch", "victim", "co-batch")
RANDOMNESS = ("unknown", "known")


@dataclass(frozen=True)
class ThreatModel:
    """Which inputs of a batch are the attacker's, and whether the defence's draw is known to it.

    Attributes:
        inputs: ``batch`` (all K inputs, each within eps), ``victim`` (one input within eps among clean
            ones) or ``co-batch`` (one victim within eps, the others anywhere in the box).
        randomness: ``unknown`` (the draw is made after the attack) or ``known`` (a new attack for each draw).
    """

    inputs: str
    randomness: str

    def __post_init__(self):
        if self.inputs not in INPUTS:
            raise InputError(f"--inputs {self.inputs!r} is not known; choose from {', '.join(INPUTS)}")
        if self.randomness not in RANDOMNESS:
            raise ValueError(f"expected randomness out of {', '.join(RANDOMNESS)}, got {self.randomness!r}")

    def __str__(self) -> str:
        return f"{self.inputs}/{self.randomness}"
