"""What an engine reports about each unit."""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from torch import Tensor

from robustbench_coded.evaluation.planning.plan import Unit


@dataclass(frozen=True)
class UnitResult:
    """A finished unit.

    Attributes:
        rows: its outcome rows.
        metadata: what belongs to the outcomes and is equal on every run: image counts and the attack's notes.
        timing: seconds and peak memory, which are not.
        adversarials: what was found, example by example, when asked for.
        pictures: the content of a file of `runs.pictures`, None without one.
    """

    unit: Unit
    rows: pd.DataFrame
    metadata: dict[str, Any]
    timing: dict[str, Any]
    adversarials: dict[str, Tensor] = field(default_factory=dict)
    pictures: bytes | None = None


@dataclass(frozen=True)
class UnitFailure:
    """A unit without outcomes, and why: a failure in the report, never a robust example.

    Attributes:
        error: one line.
        attempts: how often it was tried.
        details: the end of the traceback, where there was one.
        spoilt: whether the process that tried it can't be used any further, as after a fault of the device.
    """

    unit: Unit
    error: str
    attempts: int
    details: str = ""
    spoilt: bool = False
