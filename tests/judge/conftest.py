"""Outcome frames of made-up evaluations."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import pytest
from numpy.typing import ArrayLike

from robustbench_coded.schema.case import KEY_COLUMNS, Case
from robustbench_coded.schema.manifest import CaseRecord

BUDGET = {"norm": "linf", "eps": 8 / 255, "eps_space": "pixel"}


class Evaluation:
    """Collects outcomes of one checkpoint as frames; what is not said is the same for all of them."""

    def __init__(self):
        self.outcomes: list[pd.DataFrame] = []
        self.planned: list[dict] = []

    def add(
        self,
        attack: str,
        scoring: ArrayLike,
        selection: ArrayLike | None = None,
        *,
        examples: ArrayLike | None = None,
        batch_size: int = 16,
        planned: int | None = None,
        batch: ArrayLike | None = None,
        randomised: bool = True,
        batch_dependent: bool = True,
        **key: object,
    ) -> "Evaluation":
        """Adds an attack with ``scoring`` and ``selection`` outcomes [examples, draws], true where right."""
        full = {
            "checkpoint": "erm",
            "defence": "rci",
            "k": 16,
            "n": 24,
            "threat": "batch/unknown",
            "attack": attack,
        }
        full |= BUDGET | {"step_size": None if attack in ("clean", "random-sign") else 2 / 255}
        if attack == "clean":
            full["eps"] = 0.0
        full |= key
        scoring = np.asarray(scoring, dtype=bool)
        ids = np.arange(len(scoring)) if examples is None else np.asarray(examples)
        members = ids // batch_size if batch is None else np.asarray(batch)
        for purpose, right in (("scoring", scoring), ("selection", selection)):
            if right is not None:
                self.outcomes.append(_frame(full, purpose, np.asarray(right, dtype=bool), ids, members))
        self.planned.append(
            full
            | {
                "examples_planned": len(ids) if planned is None else planned,
                "draws": scoring.shape[1],
                "batch_dependent": batch_dependent,
                "randomised": randomised,
            }
        )
        return self

    def parts(self) -> tuple[pd.DataFrame, list[CaseRecord]]:
        """The outcomes and the plan."""
        return pd.concat(self.outcomes, ignore_index=True), [
            CaseRecord(
                case=Case.from_columns(row),
                **{name: value for name, value in row.items() if name not in KEY_COLUMNS},
            )
            for row in self.planned
        ]

    def frames(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The outcomes, and the plan as a frame with key columns."""
        return pd.concat(self.outcomes, ignore_index=True), pd.DataFrame(self.planned)


def _frame(key: Mapping, purpose: str, right: np.ndarray, ids: np.ndarray, batch: np.ndarray):
    examples, draws = right.shape
    label = np.repeat(ids % 10, draws)
    return pd.DataFrame(
        {
            **{name: [value] * right.size for name, value in key.items()},
            "purpose": purpose,
            "example": np.repeat(ids, draws),
            "label": label,
            "batch": np.repeat(batch, draws),
            "slot": np.repeat(ids % 16, draws),
            "draw": np.tile(np.arange(draws), examples),
            "prediction": np.where(right.ravel(), label, (label + 1) % 10),
            "margin": np.where(right.ravel(), 1.0, -1.0),
        }
    )


@pytest.fixture(scope="session")
def evaluation() -> Callable[[], Evaluation]:
    return Evaluation
