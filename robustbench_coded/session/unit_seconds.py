"""How long a unit takes one worker here.

    unit_seconds(prepared, unit) -> seconds at most, about

Scoring and attacks on the defence take as long as its answers; attacks on its base model as long as the
model's. A defence that says how many images it forwards takes as long as the model does for these; any other
one as long as it took when it was probed. Attacks differentiate a prepared model; what is scored, and is
submitted, is asked of the original, whose answers take more than a third of a gradient of the other.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from statistics import median
from threading import Event, Thread
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from attacks.naming import parse
from robustbench_coded.evaluation.execution.target import images_of
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.options.workers import worker_count
from robustbench_coded.evaluation.planning.cases import AttackCase, Unit
from robustbench_coded.evaluation.planning.plan import scoring_images
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.models.pixel_model import PixelModel
from robustbench_coded.models.tf32 import tf32
from robustbench_coded.schema.controls import CONTROLS
from robustbench_coded.threads import torch_threads

TIMED_IMAGES = 64
TIMED_PIXELS = TIMED_IMAGES * 32 * 32  # on a CPU, where small images go through a network in larger pieces
TIMED_SECONDS = 0.25
MOST_TIMES = 20

# Seconds by checkpoint, threads and what was timed: an evaluation in rounds asks before each of them.
_timed: WeakKeyDictionary[WorkerContext, dict[tuple[str, int, str], float]] = WeakKeyDictionary()


def unit_seconds(prepared: PreparedEvaluation, unit: Unit) -> float:
    """Seconds that a unit takes one worker at most, about."""
    row, subject = unit.row, unit.row.subject
    batches = len(unit.victims) or sum(map(len, unit.groups))
    scored = unit.images
    if _attacks(row) and not unit.partitions:  # all others are answered and nothing else
        scored = min(scored, batches * scoring_images(prepared.setup.config, row))
    attacked = unit.images - scored
    if not unit.scored:
        scored = 0
    probed = prepared.context.probe_seconds.get(subject)
    behind = None if probed is None else probed / subject.images
    seconds = 0.0
    if scored:
        forward = 3 * seconds_per_answer(prepared, subject.checkpoint)  # counted as a third of a gradient
        seconds += scored * (forward if behind is None else behind)
    if attacked:
        if behind is None or parse(row.attack).estimator == "transfer":
            behind = seconds_per_image(prepared, subject.checkpoint)
        seconds += attacked * behind
    return seconds


def _attacks(row: AttackCase) -> bool:
    return row.attack not in CONTROLS and row.submission is None


def seconds_per_image(prepared: PreparedEvaluation, checkpoint: str) -> float:
    """One worker's, for a forward and backward of the model that attacks differentiate; timed once."""

    def differentiate(model: torch.nn.Module, x: Tensor) -> None:
        leaf = x.clone().requires_grad_()
        with tf32(True):
            answered = model(leaf).sum()
            if answered.requires_grad:  # else its relaxed gradients are what costs, and somewhat more
                torch.autograd.grad(answered, leaf, allow_unused=True)

    model = prepared.context.gradients(checkpoint).model
    return _once(prepared, checkpoint, "gradient", model, differentiate)


def seconds_per_answer(prepared: PreparedEvaluation, checkpoint: str) -> float:
    """One worker's, for a forward of an image through the model that is scored; timed once."""

    @torch.no_grad()
    def answer(model: torch.nn.Module, x: Tensor) -> None:
        model(x)

    return _once(prepared, checkpoint, "answer", prepared.context.model(checkpoint), answer)


def _once(
    prepared: PreparedEvaluation,
    checkpoint: str,
    what: str,
    model: PixelModel,
    ask: Callable[[torch.nn.Module, Tensor], None],
) -> float:
    known = _timed.setdefault(prepared.context, {})
    key = (checkpoint, prepared.setup.threads, what)
    if key not in known:
        known[key] = _time(prepared, model, ask)
    return known[key]


@contextmanager
def _beside(others: int, model: PixelModel, x: Tensor, threads: int) -> Iterator[None]:
    """Keeps ``others`` more threads as busy as workers will be: they share caches and, often, cores."""
    over = Event()

    def answer() -> None:
        torch.set_num_threads(threads)
        with torch.no_grad(), suppress(Exception):  # what fails is said by the one that is timed
            while not over.is_set():
                model(x)

    busy = [Thread(target=answer, daemon=True) for _ in range(others)]
    for thread in busy:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in busy:
            thread.join()


def _time(
    prepared: PreparedEvaluation, model: PixelModel, ask: Callable[[torch.nn.Module, Tensor], None]
) -> float:
    context, setup = prepared.context, prepared.setup
    on_cpu = context.device.type == "cpu"
    height, width = context.data.image_shape[-2:]
    most = min(TIMED_PIXELS // (height * width), setup.group_images) if on_cpu else 0
    count = min(max(TIMED_IMAGES, most), setup.examples)
    x = context.data.batch(range(count))[0].to(context.device)
    taken: list[float] = []
    others = min(worker_count(setup.config, context.device), os.cpu_count() or 1) - 1 if on_cpu else 0
    with torch_threads(setup.threads), _beside(others, model, x, setup.threads):
        while len(taken) < MOST_TIMES and (len(taken) < 3 or sum(taken) < TIMED_SECONDS):
            start = time.perf_counter()
            ask(model, x)
            if context.device.type == "cuda":
                torch.cuda.synchronize(context.device)
            taken.append(time.perf_counter() - start)
    # The first pays for warming up; the others for whatever else the machine does, as the run will.
    return median(taken[1:]) / images_of(model.network, count)
