"""How long a unit takes one worker here.

    unit_seconds(prepared, unit) -> seconds at most, about

Scoring and attacks on the defence take as long as its answers; attacks on its base model as long as the
model's. Coded inference is timed by itself, for encoding and decoding take time, too. A user's defence
that says how many images it forwards takes as long as the model does for these; any other one as long as it
took when it was probed. Attacks differentiate a prepared model; what is scored, and is
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
from robustbench_coded.defences.protocol import Defence, logits_grouped
from robustbench_coded.evaluation.execution.in_memory import is_plugin
from robustbench_coded.evaluation.execution.target import draws_of, images_of
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.options.workers import worker_count
from robustbench_coded.evaluation.planning.cases import AttackCase, Subject, Unit
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

Ask = Callable[[Tensor], Tensor]

# Seconds by what was timed: an evaluation in rounds asks before each of them.
_timed: WeakKeyDictionary[WorkerContext, dict[tuple, float]] = WeakKeyDictionary()


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
    if scored:  # a forward is counted as a third of a gradient
        seconds += scored * (3 * seconds_per_answer(prepared, subject) if behind is None else behind)
    if attacked:
        of_base = parse(row.attack).estimator == "transfer"
        if behind is None or of_base:
            behind = seconds_per_image(prepared, subject, of_base=of_base)
        seconds += attacked * behind
    return seconds


def _attacks(row: AttackCase) -> bool:
    return row.attack not in CONTROLS and row.submission is None


def seconds_per_image(prepared: PreparedEvaluation, subject: Subject, *, of_base: bool = False) -> float:
    """One worker's, for a forward and backward of an image as attacks ask for it; timed once.

    Args:
        of_base: whether the base model is attacked in place of the defence.
    """
    context = prepared.context
    model = context.gradients(subject.checkpoint).model
    through = None if of_base or not _encodes(subject) else context.attack_defence(subject)

    def differentiate(ask: Ask, x: Tensor) -> None:
        leaf = x.clone().requires_grad_()
        with tf32(True):
            answered = ask(leaf).sum()
            if answered.requires_grad:  # else its relaxed gradients are what costs, and somewhat more
                torch.autograd.grad(answered, leaf, allow_unused=True)

    return _once(prepared, subject, model, through, differentiate)


def seconds_per_answer(prepared: PreparedEvaluation, subject: Subject) -> float:
    """One worker's, for a forward of an image through the defence that is scored; timed once."""
    context = prepared.context
    through = context.defence(subject) if _encodes(subject) else None

    @torch.no_grad()
    def answer(ask: Ask, x: Tensor) -> None:
        ask(x)

    return _once(prepared, subject, context.model(subject.checkpoint), through, answer)


def _encodes(subject: Subject) -> bool:
    """Whether it is ours and does more than to ask the model."""
    return subject.batch_dependent and not is_plugin(subject.spec)


def _once(
    prepared: PreparedEvaluation,
    subject: Subject,
    model: PixelModel,
    through: Defence | None,
    timed: Callable[[Ask, Tensor], None],
) -> float:
    known = _timed.setdefault(prepared.context, {})
    what = (through and (subject.spec, subject.k), prepared.setup.threads, timed.__name__)
    asked = (subject.checkpoint, *what)  # for every unit of a plan: its key takes no time
    if asked not in known:
        # Networks of the same layers take the same time, whatever their weights.
        alike = (repr(model), *what)
        if alike not in known:
            known[alike] = _time(prepared, subject, model, through, timed)
        known[asked] = known[alike]
    return known[asked]


@contextmanager
def _beside(others: int, ask: Ask, x: Tensor, threads: int) -> Iterator[None]:
    """Keeps ``others`` more threads as busy as workers will be: they share caches and, often, cores."""
    over = Event()

    def answer() -> None:
        torch.set_num_threads(threads)
        with torch.no_grad(), suppress(Exception):  # what fails is said by the one that is timed
            while not over.is_set():
                ask(x)

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
    prepared: PreparedEvaluation,
    subject: Subject,
    model: PixelModel,
    through: Defence | None,
    timed: Callable[[Ask, Tensor], None],
) -> float:
    context, setup = prepared.context, prepared.setup
    ask, x, images = _question(prepared, subject, model, through)
    on_cpu = context.device.type == "cpu"
    taken: list[float] = []
    others = min(worker_count(setup.config, context.device), os.cpu_count() or 1) - 1 if on_cpu else 0
    with torch_threads(setup.threads), _beside(others, ask, x, setup.threads):
        while len(taken) < MOST_TIMES and (len(taken) < 3 or sum(taken) < TIMED_SECONDS):
            start = time.perf_counter()
            timed(ask, x)
            if context.device.type == "cuda":
                torch.cuda.synchronize(context.device)
            taken.append(time.perf_counter() - start)
    # The first pays for warming up; the others for whatever else the machine does, as the run will.
    return median(taken[1:]) / images


def _question(
    prepared: PreparedEvaluation, subject: Subject, model: PixelModel, through: Defence | None
) -> tuple[Ask, Tensor, int]:
    """What is asked, with which inputs, and how many images pass through the network."""
    context, setup = prepared.context, prepared.setup
    height, width = context.data.image_shape[-2:]
    on_cpu = context.device.type == "cpu"
    most = min(TIMED_PIXELS // (height * width), setup.group_images) if on_cpu else 0
    count = min(max(TIMED_IMAGES, most), setup.examples)
    x = context.data.batch(range(count))[0].to(context.device)
    if through is None:
        return model, x, images_of(model.network, count)
    groups = max(1, most // subject.images)
    batches = x[torch.arange(groups * subject.k) % count].unflatten(0, (groups, subject.k))
    draws = draws_of(through, subject.k, setup.config.seed, [-1] * groups, "probe", 0)

    def ask(x: Tensor) -> Tensor:
        return logits_grouped(through, x, draws)

    return ask, batches, groups * subject.images
