"""How long a unit takes one worker here.

    unit_seconds(prepared, unit) -> seconds at most, about

Scoring and attacks on the defence take as long as its answers; attacks on its base model as long as the
model's. A defence that says how many images it forwards takes as long as the model does for these; any other
one as long as it took when it was probed.
"""

import time
from statistics import median
from weakref import WeakKeyDictionary

import torch

from attacks.naming import parse
from robustbench_coded.evaluation.execution.target import images_of
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.planning.cases import AttackCase, Subject, Unit
from robustbench_coded.evaluation.planning.plan import scoring_images
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.models.tf32 import tf32
from robustbench_coded.schema.controls import CONTROLS

TIMED_IMAGES = 64
TIMED_SECONDS = 0.5
MOST_TIMES = 20

# Seconds by checkpoint and threads: an evaluation in rounds asks before each of them.
_timed: WeakKeyDictionary[WorkerContext, dict[tuple[str, int], float]] = WeakKeyDictionary()


def unit_seconds(prepared: PreparedEvaluation, unit: Unit) -> float:
    """Seconds that a unit takes one worker at most, about."""
    subject = unit.row.subject
    behind = _behind(prepared, subject)
    if not _on_the_base(unit.row):
        return behind * unit.images
    batches = len(unit.victims) or sum(map(len, unit.groups))
    scored = unit.images
    if not unit.partitions:  # those are scored and nothing else
        scored = min(scored, batches * scoring_images(prepared.setup.config, unit.row))
    return behind * scored + seconds_per_image(prepared, subject.checkpoint) * (unit.images - scored)


def _on_the_base(row: AttackCase) -> bool:
    attacked = row.attack not in CONTROLS and row.submission is None
    return attacked and parse(row.attack).estimator == "transfer"


def _behind(prepared: PreparedEvaluation, subject: Subject) -> float:
    """Seconds for a forward and backward of an image behind the subject's defence."""
    probed = prepared.context.probe_seconds.get(subject)
    if probed is None:
        return seconds_per_image(prepared, subject.checkpoint)
    return probed / subject.images


def seconds_per_image(prepared: PreparedEvaluation, checkpoint: str) -> float:
    """One worker's, for a forward and backward of the model that attacks differentiate; timed once."""
    known = _timed.setdefault(prepared.context, {})
    key = (checkpoint, prepared.setup.threads)
    if key not in known:
        known[key] = _time(prepared, checkpoint)
    return known[key]


def _time(prepared: PreparedEvaluation, checkpoint: str) -> float:
    context = prepared.context
    model = context.gradients(checkpoint).model
    count = min(TIMED_IMAGES, prepared.setup.examples)
    x = context.data.batch(range(count))[0].to(context.device)
    taken: list[float] = []
    before = torch.get_num_threads()
    torch.set_num_threads(prepared.setup.threads)
    try:
        while len(taken) < MOST_TIMES and (len(taken) < 3 or sum(taken) < TIMED_SECONDS):
            start = time.perf_counter()
            leaf = x.clone().requires_grad_()
            with tf32(True):
                answered = model(leaf).sum()
                if answered.requires_grad:  # else its relaxed gradients are what costs, and somewhat more
                    torch.autograd.grad(answered, leaf, allow_unused=True)
            if context.device.type == "cuda":
                torch.cuda.synchronize(context.device)
            taken.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(before)
    # The first pays for warming up; the others for whatever else the machine does, as the run will.
    return median(taken[1:]) / images_of(model.network, count)
