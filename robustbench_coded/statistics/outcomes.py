"""Outcome frames as arrays: one cell [examples, draws] for each case and purpose.

    cells(outcomes)  -> {(CaseKey, purpose): Cell}
    case_keys(frame) -> [CaseKey]

Columns of an outcome frame: docs/architecture.md, 'Outcomes'.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustbench_coded.schema.case import KEY_COLUMNS, CaseKey
from robustbench_coded.schema.threat_model import ThreatModel

_NAMES = ("checkpoint", "defence", "attack", "norm", "eps_space")


@dataclass(frozen=True)
class Cell:
    """Answers of one defence to one attack's inputs: the examples for which every draw was answered."""

    example: NDArray[np.int64]  # [examples], increasing
    batch: NDArray[np.int64]  # [examples]
    label: NDArray[np.int64]  # [examples]
    draw: NDArray[np.int64]  # [draws], increasing
    prediction: NDArray[np.int32]  # [examples, draws]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """[examples, draws]"""
        return self.prediction == self.label[:, None]

    def at_examples(self, example: NDArray[np.int64]) -> "Cell":
        """The part for ``example``, increasing ids that this cell holds."""
        if len(example) == len(self.example):
            return self
        rows = np.searchsorted(self.example, example)
        return Cell(self.example[rows], self.batch[rows], self.label[rows], self.draw, self.prediction[rows])

    def at_draws(self, draw: NDArray[np.int64]) -> "Cell":
        """The part for ``draw``, increasing draws that this cell holds."""
        columns = np.searchsorted(self.draw, draw)
        return Cell(self.example, self.batch, self.label, draw, self.prediction[:, columns])


def case_keys(frame: pd.DataFrame) -> list[CaseKey]:
    """The key of every row of a small frame with key columns.

    Raises:
        ValueError: a threat model that this version does not know.
    """
    columns: list[Iterable[object]] = []
    for name in KEY_COLUMNS:
        values = frame[name]
        if name == "threat":
            columns.append(map(ThreatModel.parse, values.astype(str)))
        elif name in _NAMES:
            columns.append(values.astype(object).where(values.notna(), "").map(str))
        elif name == "eps":
            columns.append(values.map(float))
        else:
            kind = float if name == "step_size" else int
            columns.append([None if pd.isna(value) else kind(value) for value in values])
    return [CaseKey(*values) for values in zip(*columns)]


def cells(outcomes: pd.DataFrame, replicate: int = 0) -> dict[tuple[CaseKey, str], Cell]:
    """Sorts an outcome frame into cells, by case and purpose (``selection`` or ``scoring``).

    Args:
        outcomes: columns as in docs/architecture.md; without a ``replicate`` column all rows are replicate 0.
        replicate: the repetition of the evaluation to take.
    """
    if "replicate" in outcomes and not (outcomes["replicate"] == replicate).all():
        outcomes = outcomes[outcomes["replicate"] == replicate]
    if outcomes.empty:
        return {}
    code = np.zeros(len(outcomes), dtype=np.int64)
    for name in (*KEY_COLUMNS, "purpose"):
        values, levels = pd.factorize(outcomes[name])
        # -1 stands for null and becomes a level of its own.
        code = code * (len(levels) + 1) + values + 1
    order = np.argsort(code, kind="stable")
    starts = np.flatnonzero(np.diff(code[order], prepend=-1))
    firsts = outcomes.iloc[order[starts]]
    keys = zip(case_keys(firsts), firsts["purpose"].map(str))
    column = {name: outcomes[name].to_numpy() for name in ("example", "batch", "label", "draw", "prediction")}
    return {
        key: _cell({name: values[rows] for name, values in column.items()})
        for key, rows in zip(keys, np.split(order, starts[1:]))
    }


def _cell(column: dict[str, NDArray[np.integer]]) -> Cell:
    example, first, row = np.unique(column["example"], return_index=True, return_inverse=True)
    draw, place = np.unique(column["draw"], return_inverse=True)
    answers = np.bincount(row, minlength=len(example))
    prediction = np.full((len(example), len(draw)), -1, dtype=np.int32)
    prediction[row, place] = column["prediction"]
    whole = answers == len(draw)
    first = first[whole]
    return Cell(
        example[whole].astype(np.int64),
        column["batch"][first].astype(np.int64),
        column["label"][first].astype(np.int64),
        draw.astype(np.int64),
        prediction[whole],
    )
