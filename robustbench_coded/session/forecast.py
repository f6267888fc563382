"""How much lies ahead and how long it takes here, before anything runs."""

import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from weakref import WeakKeyDictionary

import torch

from robustbench_coded.evaluation.execution.target import images_of
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.options.workers import worker_count
from robustbench_coded.evaluation.planning.cases import Unit
from robustbench_coded.evaluation.planning.plan import Plan
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.models.tf32 import tf32
from robustbench_coded.session.early_stops import likely_shares
from robustbench_coded.session.listener import Forecast

TIMED_IMAGES = 64
TIMED_SECONDS = 0.5
MOST_TIMES = 20

# Seconds by checkpoint and threads: an evaluation in rounds asks before each of them.
_timed: WeakKeyDictionary[WorkerContext, dict[tuple[str, int], float]] = WeakKeyDictionary()


def forecast(prepared: PreparedEvaluation, plan: Plan, pending: Sequence[Unit]) -> Forecast:
    """Images still to go and the seconds they take, from one timed forward and backward of each model.

    The seconds are fewer where attacks stop early, as far as a pilot on a few images tells.
    """
    per_image = {c.name: 0.0 for c in prepared.setup.checkpoints}
    images: dict[str, int] = dict.fromkeys(per_image, 0)
    for unit in pending:
        images[unit.row.subject.checkpoint] += unit.images
    for name, count in images.items():
        if count:
            per_image[name] = seconds_per_image(prepared, name)
    workers = min(worker_count(prepared.setup.config, prepared.context.device), max(1, len(pending)))
    made = Forecast(
        units=len(pending),
        images=sum(images.values()),
        done=len(plan.units) - len(pending),
        seconds=0.0,
        seconds_per_image=per_image,
        shares=likely_shares(prepared, dict.fromkeys(unit.row for unit in pending)),
    )
    return replace(made, seconds=sum(map(made.likely, pending)) / workers)


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
