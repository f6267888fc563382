"""What an engine returns for each unit."""

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from torch import Tensor

from robustbench_coded.evaluation.planning.cases import Unit


@dataclass(frozen=True)
class UnitResult:
    """A finished unit.

    Attributes:
        rows: its outcome rows, in the columns of `runs.outcomes.SCHEMA`.
        metadata: stored with the outcomes and equal in every run: image counts and notes of the attack.
        timing: seconds and peak memory, which differ between runs.
        adversarials: the perturbed inputs, if asked for.
        pictures: the content of a file of `runs.pictures`, None without one.
    """

    unit: Unit
    rows: pa.Table
    metadata: dict[str, Any]
    timing: dict[str, Any]
    adversarials: dict[str, Tensor] = field(default_factory=dict)
    pictures: bytes | None = None


@dataclass(frozen=True)
class UnitFailure:
    """A unit without outcomes, and why. The report counts it as a failure, never as robust examples.

    Attributes:
        error: one line.
        attempts: how often it was tried.
        details: the end of the traceback, where there was one.
        process_unusable: whether the process that tried it can't be used any more, as after a CUDA fault.
    """

    unit: Unit
    error: str
    attempts: int
    details: str = ""
    process_unusable: bool = False
