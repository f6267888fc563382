"""Scoring: what a defence predicts, in float32, on draws that no attack has seen; and the outcomes and
costs of a unit, collected while it runs.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from attacks.losses import margin
from robustbench_coded.defences.protocol import Defence, logits_grouped, reject_class
from robustbench_coded.evaluation.execution.perturb import AttackResult
from robustbench_coded.evaluation.execution.target import answers_or_nan, draws_of, images_of
from robustbench_coded.evaluation.planning.cases import Unit
from robustbench_coded.evaluation.planning.streams import Purpose
from robustbench_coded.models.prepare import tf32
from robustbench_coded.runs.adversarials import DIGEST, Adversarials, PerturbedDigest
from robustbench_coded.runs.outcomes import SCHEMA

NO_ANSWER = -1  # the prediction for an input at which a defence fails
TIE = 1e-3  # margins below it may turn by rounding
BROKEN = 0.5  # share of clean inputs without an answer above which it is no defence that answers


class InvalidAnswer(Exception):
    """A defence answered with the wrong shape, mostly with NaN, or changed in the course of a unit."""


@torch.no_grad()
@tf32(False)
def predictions(
    defence: Defence,
    x: Tensor,
    y: Tensor,
    *,
    seed: int,
    batches: Sequence[int],
    purpose: Purpose,
    draws: Sequence[int],
    group_images: int,
    clean: Tensor | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Predictions of the defence for G batches in each of several draws.

    Args:
        x: inputs [G, K, C, H, W] in [0, 1].
        y: labels [G, K].
        batches: index of each batch, which names its draws.
        draws: indices of the draws.
        group_images: images that may go through the network in one forward.
        clean: the inputs that ``x`` was made from, where it is perturbed. Where the defence rejects an input,
            perturbed or clean, its answer to the clean one, in the same draw, counts: a rejected perturbation
            wins nothing, and an input that is rejected or answered wrongly anyway need not be perturbed.

    Returns:
        predictions int [len(draws), G, K] and margins float32 [len(draws), G, K]: the true class's logit
        less the largest other one. Where the defence answers with NaN or infinite logits, or a perturbed
        input with an exception and the clean one without, the prediction is NO_ANSWER and the margin -inf.

    Raises:
        InvalidAnswer: logits of the wrong shape, or NaN or infinite ones at more than BROKEN of clean inputs.
        Exception: what the defence raises at clean inputs.
    """
    groups, k = x.shape[:2]
    # One forward may hold several draws of the same batches: for small K that is most of the speed.
    together = max(1, group_images // (groups * images_of(defence, k)))
    labels, margins = [], []
    reject = reject_class(defence) if clean is not None else None
    for start in range(0, len(draws), together):
        chosen = draws[start : start + together]
        samples = [s for d in chosen for s in draws_of(defence, k, seed, batches, purpose, d)]
        logits = _answers(defence, x, samples, clean)
        failed = _failed(logits)
        if failed.cpu().double().mean() > BROKEN:
            lost = _failed(logits if clean is None else _answers(defence, clean, samples, None))
            if lost.cpu().double().mean() > BROKEN:
                raise InvalidAnswer(
                    f"expected finite logits, got NaN or infinite ones at {int(lost.sum())} of "
                    f"{lost.numel()} clean inputs"
                )
        y_chosen = y.expand(len(chosen), -1, -1)
        if reject is not None and clean is not None:
            # Of a defence that has seen an attack: as it answers where there was none.
            alone = _answers(getattr(defence, "emptied", defence), clean, samples, None)
            rejected = (alone.argmax(-1) == reject) | (~failed & (logits.argmax(-1) == reject))
            logits = torch.where(rejected.unsqueeze(-1), alone, logits)
            failed = _failed(logits)
        labels.append(logits.argmax(-1).masked_fill(failed, NO_ANSWER).cpu())
        margins.append(margin(logits, y_chosen).masked_fill(failed, -torch.inf).cpu())
    return torch.cat(labels).numpy(), torch.cat(margins).numpy()


def _answers(defence: Defence, x: Tensor, samples: Sequence[Any], clean: Tensor | None) -> Tensor:
    """Logits [draws, G, K, classes] of x [G, K, ...], of its dtype, under G samples of each draw.

    NaN where the defence raises at ``x`` and not at ``clean``, if that is given.
    """
    groups, k = x.shape[:2]
    draws = len(samples) // groups
    # Always a copy: a defence may write into what it is given.
    repeated = x.repeat(draws, *[1] * (x.ndim - 1))
    independent = not defence.randomised and not defence.batch_dependent

    ask = partial(logits_grouped, defence)
    logits = answers_or_nan(ask, repeated, samples, clean, independent=independent)
    if logits.ndim != 3 or logits.shape[:2] != (len(samples), k):
        expected = f"expected logits of shape ({len(samples)}, {k}, classes)"
        raise InvalidAnswer(f"{expected}, got {tuple(logits.shape)}")
    return logits.to(x.dtype).view(draws, groups, k, -1)


def _failed(logits: Tensor) -> Tensor:
    return ~logits.isfinite().all(-1)


@dataclass
class Tally:
    """Blocks of outcome columns, one for each draw of each group, and counts.

    Attributes:
        columns: the blocks.
        counts: images forwarded and differentiated.
        adversarials: the perturbed inputs, if they are stored.
        perturbed: digest of the perturbed inputs, where whole batches are attacked for any draw.
        unanswered_at: example and draw of the first answer that the defence did not give, if any.
        last: what was predicted last, and what asks for it again, as `predictions` does.
    """

    columns: list[dict[str, np.ndarray]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    adversarials: Adversarials | None = None
    perturbed: PerturbedDigest = field(default_factory=PerturbedDigest)
    unanswered_at: tuple[int, int] | None = None
    last: tuple[np.ndarray, Callable[[], tuple[np.ndarray, np.ndarray]]] | None = None

    def attacked(self, result: AttackResult) -> Tensor:
        """Records the cost of an attack on one group; returns the perturbed inputs."""
        self.counts.update(result.counts)
        return result.x

    def metadata(self) -> dict[str, Any]:
        """Counts, as the unit's outcome file stores them."""
        facts: dict[str, Any] = {**self.counts}
        if self.perturbed.count:
            facts[DIGEST] = str(self.perturbed)
        if self.unanswered_at is not None:
            facts["unanswered_at"] = list(self.unanswered_at)
        return dict(sorted(facts.items()))

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
                    "purpose": np.full(size, purpose, dtype=object),
                    "draw": np.full(size, draw),
                    "prediction": prediction[i],
                    "margin": margin[i],
                }
            )

    def rows(self, unit: Unit) -> pa.Table:
        """All blocks as outcome rows, in an order that does not depend on how they were computed."""
        blocks = {name: np.concatenate([block[name] for block in self.columns]) for name in self.columns[0]}
        order = np.lexsort([blocks[name] for name in ("slot", "batch", "draw", "purpose")])
        columns = {name: values[order] for name, values in blocks.items()}
        for name, value in unit.case.case.as_columns().items():
            columns[name] = np.full(len(order), value, dtype=object)
        # Texts become dictionaries in the order in which they occur; a NaN is stored as no value.
        arrays = [pa.array(columns[field.name], type=field.type, from_pandas=True) for field in SCHEMA]
        return pa.Table.from_arrays(arrays, schema=SCHEMA)
