"""What one self-test reports."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["passed", "failed", "not applicable"]


@dataclass(frozen=True)
class SelfTest:
    """The result of one self-test.

    Attributes:
        finding: one sentence with the measured figure.
        figures: shares, cosines and counts by name.
    """

    name: str
    outcome: Outcome
    finding: str
    figures: Mapping[str, float] = field(default_factory=dict)


def judged(name: str, passed: bool, finding: str, **figures: float) -> SelfTest:
    """Passed or failed."""
    return SelfTest(name, "passed" if passed else "failed", finding, figures)


def not_applicable(name: str, finding: str, **figures: float) -> SelfTest:
    """A test that says nothing about this defence, and why."""
    return SelfTest(name, "not applicable", finding, figures)
