"""The lines of a run's summary as objects: what each is about, and its figures."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from robustbench_coded.statistics.outcomes import RowKey

NULLS = ("clean", "random-sign")
COMBINED = ("strongest", "ensemble", "naive-min")


class Subject(NamedTuple):
    """One checkpoint behind one defence at one batch size; k and n None where they mean nothing."""

    checkpoint: str
    defence: str
    k: int | None
    n: int | None


def subject_of(key: RowKey) -> Subject:
    """The subject of a row."""
    return Subject(key.checkpoint, key.defence, key.k, key.n)


class Budget(NamedTuple):
    """How far a perturbation may go, and in which space that is measured."""

    norm: str
    eps: float
    eps_space: str


def budget_of(key: RowKey) -> Budget:
    """The budget of a row."""
    return Budget(key.norm, key.eps, key.eps_space)


@dataclass(frozen=True)
class Line:
    """One line of summary.csv. Accuracies are fractions, None where there are no outcomes."""

    subject: Subject
    threat: str
    attack: str
    budget: Budget
    step_size: float | None
    examples: int
    examples_planned: int
    draws: int
    accuracy: float | None
    low: float | None
    high: float | None
    majority: float | None
    every_draw: float | None
    forwards: float | None  # images per scored example
    backwards: float | None
    done: bool
    clean_accuracy: float | None
    strongest_attack: str
    high_batches: float | None  # where nothing is right: the upper bound if a batch counted as one
    queries: float | None  # accuracy when any of several queries may fail

    @property
    def measured(self) -> bool:
        """Whether the line is one attack's own, not made from several."""
        return self.attack not in COMBINED


def lines_of(summary: pd.DataFrame) -> list[Line]:
    """The lines of a summary, in its order."""
    return [
        _line({name: _plain(value) for name, value in line.items()}) for line in summary.to_dict("records")
    ]


def _line(line: dict[Any, Any]) -> Line:
    return Line(
        subject=Subject(line["checkpoint"], line["defence"], line["k"], line["n"]),
        threat=line["threat"],
        attack=line["attack"],
        budget=Budget(line["norm"] or "", line["eps"], line["eps_space"] or ""),
        step_size=line["step_size"],
        examples=line["examples"],
        examples_planned=line["examples_planned"],
        draws=line["draws"],
        accuracy=line["accuracy"],
        low=line["ci_low"],
        high=line["ci_high"],
        majority=line["accuracy_majority"],
        every_draw=line["accuracy_every_draw"],
        forwards=line["forwards_per_example"],
        backwards=line["backwards_per_example"],
        done=line["status"] == "done",
        clean_accuracy=line["clean_accuracy"],
        strongest_attack=line["strongest_attack"] or "",
        high_batches=line["ci_high_batches"],
        queries=line.get("accuracy_queries"),
    )


def _plain(value: Any) -> Any:
    return None if pd.isna(value) else value
