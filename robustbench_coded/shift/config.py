"""The options of ``csrobust shift`` beside those that it shares with ``csrobust eval``."""

from dataclasses import dataclass

from robustbench_coded.errors import InputError, did_you_mean
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.shift.corruptions.constants import CONSTANTS, SEVERITIES

LEAST_DRAWS = 2


@dataclass(frozen=True)
class ShiftConfig:
    """What is evaluated on which sets.

    Attributes:
        evaluation: checkpoints, inferences, batches, draws, seed and machine; its ``data`` and ``attacks``
            are not used.
        data: data sets as text. One that ``csrobust eval`` knows is corrupted here; ``cifar10c:DIR``,
            ``cifar10.1:DIR``, ``cifar10.2:DIR``, ``imagenet-c:DIR``, ``imagenet-r:DIR`` and
            ``imagenet-a:DIR`` are evaluated as they are.
        corruptions: names; empty for all that the images can have.
        severities: from 1 to 5.
        baseline: the checkpoint whose standard inference errors are divided by; None for the first.
    """

    evaluation: EvalConfig
    data: tuple[str, ...] = ("auto",)
    corruptions: tuple[str, ...] = ()
    severities: tuple[int, ...] = SEVERITIES
    baseline: str | None = None

    def __post_init__(self) -> None:
        for name in self.corruptions:
            if name not in CONSTANTS:
                near = did_you_mean(name, list(CONSTANTS))
                raise InputError(
                    f"--corruptions {name}: no such corruption; {near}known: {', '.join(CONSTANTS)}"
                )
        for severity in self.severities:
            if severity not in SEVERITIES:
                raise InputError(f"--severities {severity}: severities are 1, 2, 3, 4 and 5")
        if self.evaluation.draws < LEAST_DRAWS:
            raise InputError(f"--draws {self.evaluation.draws}: give {LEAST_DRAWS} or more")
        if len(self.evaluation.batch_sizes) > 1:
            raise InputError("--batch-size: one size at a time; make a run of each")
        names = [name for name, _ in self.evaluation.checkpoints]
        if self.baseline is not None and self.baseline not in names:
            raise InputError(f"--baseline {self.baseline}: no such checkpoint; given: {', '.join(names)}")

    @property
    def baseline_name(self) -> str:
        """The checkpoint that the others are compared with."""
        return self.baseline or self.evaluation.checkpoints[0][0]
