"""Threat models: what the attacker controls and knows (the perturbation budget is named beside them)."""

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache

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

    Raises:
        ValueError: inputs or randomness that do not exist.
    """

    inputs: str
    randomness: str

    def __post_init__(self):
        if self.inputs not in INPUTS[:3] and not _COLLATERAL.fullmatch(self.inputs):
            raise ValueError(f"expected inputs out of {', '.join(INPUTS)}, got {self.inputs!r}")
        if self.randomness not in RANDOMNESS:
            raise ValueError(f"expected randomness out of {', '.join(RANDOMNESS)}, got {self.randomness!r}")

    @staticmethod
    @lru_cache(maxsize=1024)
    def parse(text: str) -> "ThreatModel":
        """``inputs/randomness``, as tables and files write it.

        Raises:
            ValueError: it is no threat model of this version.
        """
        inputs, _, randomness = text.partition("/")
        return ThreatModel(inputs, randomness)

    def __str__(self) -> str:
        return f"{self.inputs}/{self.randomness}"

    @property
    def draw_known(self) -> bool:
        """Whether the attacker knows the draw that is scored."""
        return self.randomness == "known"

    @property
    def one_victim(self) -> bool:
        """Whether each scored example is the victim of a batch of its own."""
        return self.inputs in ("victim", "co-batch")

    @property
    def whole_batch(self) -> bool:
        """Whether every input of a batch is the attacker's."""
        return self.inputs == "batch"

    @cached_property
    def malicious(self) -> int | None:
        """M of ``collateral-M``; None elsewhere."""
        match = _COLLATERAL.fullmatch(self.inputs)
        return int(match[1]) if match else None

    @property
    def collateral(self) -> bool:
        """Whether it is the untouched inputs that are scored."""
        return self.malicious is not None

    @property
    def free(self) -> bool:
        """Whether some inputs may go anywhere in the box."""
        return self.inputs == "co-batch" or self.inputs.endswith("-box")

    def with_draw(self, randomness: str) -> "ThreatModel":
        """The same inputs with the draw ``known`` or ``unknown``."""
        return ThreatModel(self.inputs, randomness)


# All inputs of a batch within eps, the draw made afterwards: what the paper measured.
WHOLE_BATCH = ThreatModel("batch", "unknown")
# One input within eps among clean ones: all that transfer needs.
ONE_VICTIM = ThreatModel("victim", "unknown")
