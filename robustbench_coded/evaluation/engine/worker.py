"""The main loop of a worker process, and one unit in a process: retried where a retry can help."""

import gc
import os
import pickle
import signal
import sys
import threading
import traceback
from dataclasses import dataclass, replace
from multiprocessing import connection, parent_process
from multiprocessing.connection import Connection
from typing import Any

import torch

from attacks.accelerator import release_memory
from attacks.gradients import is_out_of_memory, makes_process_unusable
from robustbench_coded.errors import where_raised
from robustbench_coded.evaluation.execution.run_unit import UnitFailure, UnitResult, execute
from robustbench_coded.evaluation.execution.worker_context import Setup, WorkerContext
from robustbench_coded.evaluation.guard import torch_defaults
from robustbench_coded.evaluation.options.device import images_that_fit
from robustbench_coded.evaluation.planning.cases import Unit
from robustbench_coded.threads import flush_subnormals

MESSAGE_LENGTH = 500
DETAILS_LENGTH = 8000


@torch_defaults()  # user code that was imported since may have set others
def attempt(context: WorkerContext, unit: Unit) -> UnitResult | UnitFailure:
    """Runs a unit; any error in it becomes a failure.

    Units are deterministic, so an error recurs unless its cause is outside: a stalled file system (one retry)
    or lack of memory. Then one batch alone tells how many images a forward can hold, and the unit is tried
    again with these, and with half as many until a forward holds one batch. Smaller forwards can round
    differently, so the result's metadata then state their number of images as ``group_images``. Later units
    on the same checkpoint begin with what fitted.
    """
    planned, checkpoint = context.setup.group_images, unit.case.subject.checkpoint
    images = min(planned, context.setup.fitting.get(checkpoint, planned))
    tries = 0
    while True:
        tries += 1
        try:
            if images == planned:
                return execute(context, unit)
            result = _executed(context, unit, images)
            context.setup.fitting[checkpoint] = images
            return replace(result, unit=unit, metadata={**result.metadata, "group_images": images})
        except (Exception, SystemExit) as error:
            details = "".join(traceback.format_exception(error))[-DETAILS_LENGTH:]
            failure = UnitFailure(unit, one_line(error), tries, details, makes_process_unusable(error))
            no_memory, stalled = is_out_of_memory(error), isinstance(error, OSError) and tries == 1
        # The traceback, which references the tensors that filled the memory, is gone by now.
        if no_memory:
            gc.collect()
            release_memory()
        retry = _fewer(context, unit, images) if no_memory else images if stalled else None
        if retry is None:
            return failure
        images = retry


def _fewer(context: WorkerContext, unit: Unit, images: int) -> int | None:
    """How many images a forward of the next try may hold, after ``images`` did not fit; None if none do."""
    batch = unit.case.subject.images
    if images <= batch:
        return None
    first = replace(unit, groups=_cut(unit, batch).groups[:1])
    try:
        fitting = images_that_fit(
            context.device, lambda: _executed(context, first, batch), batch, images // 2
        )
    except (Exception, SystemExit):  # what the unit itself raised is reported
        return None
    return max(batch, fitting)


def _cut(unit: Unit, images: int) -> Unit:
    """The same unit with groups that fit into ``images`` images."""
    size = max(1, images // unit.case.subject.images)
    pieces = (group[i : i + size] for group in unit.groups for i in range(0, len(group), size))
    return replace(unit, groups=tuple(pieces))


def _executed(context: WorkerContext, unit: Unit, images: int) -> UnitResult:
    """The unit with at most so many images in a forward."""
    before = context.setup
    context.setup = replace(before, group_images=images)
    try:
        return execute(context, _cut(unit, images))
    finally:
        context.setup = before


def one_line(error: BaseException) -> str:
    """An exception as one line of printable text."""
    text = " ".join(f"{error}{where_raised(error)}".split())
    text = "".join(c if c.isprintable() else "?" for c in text)
    line = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return line if len(line) <= MESSAGE_LENGTH else line[: MESSAGE_LENGTH - 4] + " ..."


READY = "ready"


@dataclass(frozen=True)
class NotReady:
    """Why a worker can't take any job, in one line."""

    reason: str


@torch_defaults()  # the caller's program, which is imported here, may set others
def work(pipe: Connection, setup: Setup, folder: str) -> None:
    """Loads data and models, sends READY or NotReady, then an outcome for each unit received.

    Messages are plain pickles: torch's way of sending tensors passes files that vanish with a killed worker.

    Args:
        folder: the parent's current folder; paths in the setup may be relative to it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.chdir(folder)
    sys.stdout = sys.stderr  # what a user defence prints is not the command's answer
    torch.set_num_threads(setup.threads)
    flush_subnormals(True)

    def send(message: Any) -> None:
        pipe.send_bytes(pickle.dumps(message))

    try:
        context = WorkerContext(setup)
        try:
            context.load()
        except Exception as error:
            send(NotReady(one_line(error)))
            return
        send(READY)
        while True:
            send(attempt(context, pickle.loads(pipe.recv_bytes())))
    except (EOFError, BrokenPipeError):
        return  # the parent has closed the pipe


def _end_with_parent() -> None:
    """Exits when the parent dies: a killed parent may close the pipe too late."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
