"""Perturbed inputs that another tool stored: NumPy's files, and those of torch.save.

    read_given(path, shape, examples) -> {attack: GivenInputs}

AutoAttack's script writes ``{"adv_complete": x}`` or, with labels, ``{"adv_complete": (x, y)}``; of single
attacks ``{attack: x}``. torchattacks writes ``{"adv_inputs": x, "labels": y}``. RobustBench attacks by
AutoAttack.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustbench_coded.data.arrays import array, channels_at_the_end
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.cases import PlannedCase, planned_case
from robustbench_coded.evaluation.setup.prepare import prepare
from robustbench_coded.extras.verification.verify_run import Stored, VerifiedRow, scored_again
from robustbench_coded.runs.adversarials import EVERY, PerturbedBatch
from robustbench_coded.schema.case import WHOLE_BATCH

IMAGES = ("x", "x_adv", "adv_complete", "adv_inputs")
GIVEN = "given"  # the attack of inputs that the file does not name one for
FORMS = "numpy.savez(FILE, x=...) or torch.save({'x': ...}, FILE)"


@dataclass(frozen=True)
class GivenInputs:
    """Inputs of one attack.

    Attributes:
        x: float32 [n, C, H, W].
        examples: [n], the number of the example of the data that each was made from.
    """

    x: Tensor
    examples: np.ndarray


def read_given(path: Path, image_shape: tuple[int, int, int], available: int) -> dict[str, GivenInputs]:
    """The perturbed inputs in a file, by attack.

    Args:
        path: .npz, .npy or a file of torch.save, which is read in weights-only mode.
        image_shape: [C, H, W] of the data.
        available: examples of the data.

    Raises:
        InputError: the file is of no such form, or its inputs do not fit the data.
    """
    stored = _stored(path)
    if not isinstance(stored, Mapping):
        stored = {"x": stored}
    name = next((name for name in IMAGES if name in stored), None)
    if name is not None:
        sets, examples = {GIVEN: stored[name]}, stored.get("example")
    else:
        sets, examples = {str(key): value for key, value in stored.items()}, None
    # Each is x, (x, y) or a list of batches.
    firsts = [value[0] if isinstance(value, tuple | list) and value else value for value in sets.values()]
    if not firsts or not all(getattr(first, "ndim", 0) in (3, 4) for first in firsts):
        holds = ", ".join(map(str, [*stored][:10])) or "nothing"
        raise InputError(
            f"--adversarials {path} has no array x (it holds {holds}): {', '.join(IMAGES)} or, for each "
            f"attack, images of its own; write it with {FORMS}"
        )
    return {attack: _checked(path, value, examples, image_shape, available) for attack, value in sets.items()}


def _stored(path: Path) -> Any:
    """What is in the file, read without running any of it."""
    try:
        if path.suffix in (".npz", ".npy"):
            content = np.load(path, allow_pickle=False)
            return content if isinstance(content, np.ndarray) else dict(content)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"--adversarials {path}: no such file") from error
    except Exception as error:  # both raise what damaged files happen to cause
        raise InputError(
            f"--adversarials {path} can't be read as .npz, .npy or by torch.load; write it with {FORMS}"
        ) from error


def _checked(
    path: Path, value: Any, examples: Any, image_shape: tuple[int, int, int], available: int
) -> GivenInputs:
    name = f"--adversarials {path}"
    if isinstance(value, tuple | list):
        batches = [array(part) for part in value]
        pair = len(batches) == 2 and batches[1].ndim == 1  # AutoAttack's (x, y): what x was answered with
        value = batches[0] if pair else np.concatenate(batches)
    x = channels_at_the_end(value, name, channels_last=True)
    channels, height, width = image_shape
    if x.shape[1:] != (height, width, channels):
        raise InputError(f"{name} holds images {x.shape[1:]}, the data {(height, width, channels)}")
    x = x.astype(np.float32) / 255 if x.dtype == np.uint8 else x.astype(np.float32)
    if not np.isfinite(x).all():
        raise InputError(f"{name} holds NaN or infinite pixels")
    numbers = (np.arange(len(x)) if examples is None else array(examples)).astype(np.int64)
    if numbers.shape != (len(x),) or len(np.unique(numbers)) != len(x):
        raise InputError(f"{name}: example must name another example for each of {len(x)} images")
    if numbers.min() < 0 or numbers.max() >= available:
        raise InputError(f"{name} names examples outside 0 to {available - 1}")
    return GivenInputs(torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))), numbers)


def verify_file(path: Path, config: EvalConfig) -> list[VerifiedRow]:
    """Scores the inputs in a file behind every checkpoint and defence of ``config``.

    Args:
        path: a file that `read_given` reads. Where it does not say which examples of the data its inputs were
            made from, they are the first in the data's order. Co-batched inputs that the file does not hold
            are clean.
        config: checkpoints, defences, data and budget.

    Raises:
        InputError: the file is not of that form, or does not fit the data.
    """
    prepared = prepare(replace(config, first=True))
    context, (perturbation, *_) = prepared.context, prepared.perturbations
    sets = read_given(path, context.data.image_shape, int(context.numbers.max()) + 1)
    cases = [
        (planned_case(subject, WHOLE_BATCH, attack, perturbation), inputs)
        for subject in prepared.subjects
        for attack, inputs in sets.items()
    ]
    return [
        scored_again(
            context, case, _batches(context, case, inputs), config.draws if case.subject.randomised else 1
        )
        for case, inputs in cases
    ]


def _batches(context: WorkerContext, case: PlannedCase, given: GivenInputs) -> Iterator[Stored]:
    place = {int(example): i for i, example in enumerate(given.examples)}
    for batch in context.batches(case.subject):
        numbers = context.numbers[list(batch.members[: batch.scored])].tolist()
        slots = [slot for slot, number in enumerate(numbers) if number in place]
        if slots:
            x = given.x[[place[numbers[slot]] for slot in slots]]
            yield batch, PerturbedBatch(batch.index, EVERY, EVERY, torch.tensor(slots), x), slots, None
