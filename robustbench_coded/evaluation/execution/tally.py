"""Collects the outcomes and costs of a unit while it runs."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from robustbench_coded.evaluation.execution.loss_trace import LossTrace
from robustbench_coded.evaluation.execution.perturb import AttackResult
from robustbench_coded.evaluation.execution.score import NO_ANSWER
from robustbench_coded.evaluation.planning.cases import Unit
from robustbench_coded.runs.adversarials import Adversarials
from robustbench_coded.runs.outcomes import SCHEMA
from robustbench_coded.runs.perturbed_digest import PerturbedDigest
from robustbench_coded.runs.pictures import Pictures


@dataclass
class Tally:
    """Blocks of outcome columns, one for each draw of each group, and counts.

    Attributes:
        columns: the blocks.
        counts: images forwarded and differentiated; what third-party packages report of their own success.
        losses: the attack loss over the steps.
        adversarials: the perturbed inputs, if they are kept.
        pictures: the inputs with the lowest margins, if reports may show them.
        perturbed: digest of the perturbed inputs, where whole batches are attacked for any draw.
        unanswered_at: example and draw of the first answer that the defence did not give, if any.
    """

    columns: list[dict[str, np.ndarray]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    losses: LossTrace = field(default_factory=LossTrace)
    adversarials: Adversarials | None = None
    pictures: Pictures | None = None
    perturbed: PerturbedDigest = field(default_factory=PerturbedDigest)
    unanswered_at: tuple[int, int] | None = None

    def attacked(self, result: AttackResult) -> Tensor:
        """Records the cost of an attack on one group and its losses; returns the perturbed inputs."""
        self.counts.update(result.counts)
        self.losses.add(result.losses, result.x.shape[0] * result.x.shape[1])
        return result.x

    def metadata(self) -> dict[str, Any]:
        """Counts and losses, as the unit's outcome file stores them."""
        found = {**self.counts, **self.losses.metadata(), **self.perturbed.metadata()}
        if self.unanswered_at is not None:
            found["unanswered_at"] = list(self.unanswered_at)
        return dict(sorted(found.items()))

    def add(
        self,
        purpose: str,
        draws: list[int],
        *,
        prediction: np.ndarray,
        margin: np.ndarray,
        **by_example: np.ndarray,
    ) -> None:
        """One block for each draw; prediction and margin are [draws, examples], the rest [examples]."""
        if len(unanswered := np.argwhere(prediction == NO_ANSWER)):
            self.counts["unanswered"] += len(unanswered)
            place, i = unanswered[0]
            self.unanswered_at = self.unanswered_at or (int(by_example["example"][i]), draws[place])
        self.counts[f"right_{purpose}"] += int((prediction == by_example["label"]).sum())
        self.counts[f"answers_{purpose}"] += int(prediction.size)
        for i, draw in enumerate(draws):
            size = len(prediction[i])
            self.columns.append(
                {
                    **by_example,
                    "purpose": np.full(size, purpose),
                    "draw": np.full(size, draw),
                    "prediction": prediction[i],
                    "margin": margin[i],
                }
            )

    def rows(self, unit: Unit) -> pa.Table:
        """All blocks as outcome rows, in an order that does not depend on how they were computed."""
        found = {name: np.concatenate([block[name] for block in self.columns]) for name in self.columns[0]}
        order = np.lexsort([found[name] for name in ("slot", "batch", "draw", "purpose")])
        constant = {**unit.row.key.as_columns(), "replicate": unit.replicate}
        columns = [
            _repeated(constant[field.name], field.type, len(order))
            if field.name in constant
            else _column(found[field.name][order], field.type)
            for field in SCHEMA
        ]
        return pa.Table.from_arrays(columns, schema=SCHEMA)


def _column(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    """A column of an outcome file; a NaN is stored as no value."""
    if pa.types.is_dictionary(kind):
        texts, codes = np.unique(values, return_inverse=True)
        return pa.DictionaryArray.from_arrays(codes.astype(np.int32), texts.astype(object))
    return pa.array(values, type=kind, from_pandas=True)


def _repeated(value: Any, kind: pa.DataType, times: int) -> pa.Array:
    """A column that holds one value."""
    if value is None or value != value:
        return pa.nulls(times, kind)
    if pa.types.is_dictionary(kind):
        return pa.DictionaryArray.from_arrays(np.zeros(times, np.int32), [value])
    return pa.repeat(pa.scalar(value, kind), times)
