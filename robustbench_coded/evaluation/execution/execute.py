"""One unit of work: attack its batches, score what came out, return outcome rows."""

import resource
import sys
import time

import torch

from robustbench_coded.evaluation.execution.results import UnitResult
from robustbench_coded.evaluation.execution.run_unit import run_unit
from robustbench_coded.evaluation.execution.score import InvalidAnswer
from robustbench_coded.evaluation.execution.tally import Tally
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.planning.cases import Unit
from robustbench_coded.runs.adversarials import Adversarials
from robustbench_coded.runs.outcomes import SCHEMA
from robustbench_coded.runs.pictures import Pictures
from robustbench_coded.schema.controls import CLEAN, CONTROLS
from robustbench_coded.schema.threat_model import WHOLE_BATCH


def execute(context: WorkerContext, unit: Unit) -> UnitResult:
    """Runs one unit.

    Raises:
        InvalidAnswer: the defence answered most clean inputs with NaN, any with the wrong shape, or no
            longer answers as it did; or a defence has changed the checkpoint.
        Exception: whatever the defence or the attack raised; the engine makes it a recorded failure.
    """
    started = time.perf_counter()
    if context.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(context.device)
    attacked = unit.row.attack not in CONTROLS
    # Random signs, too: they may be what refutes a claim.
    keeps = (context.setup.config.keeps_adversarials and unit.row.attack != CLEAN) or unit.keep
    keeps = keeps and not unit.random_batches
    # Reports show those of the strongest attack on whole batches.
    shows = attacked and unit.row.threat == WHOLE_BATCH and unit.replicate == 0
    shows = shows and not unit.random_batches
    tally = Tally(adversarials=Adversarials() if keeps else None, pictures=Pictures() if shows else None)
    context.defence(unit.row.subject)  # built and asked how it answers before it is attacked
    run_unit(context, unit, tally)
    if change := context.memory(unit.row.subject):
        raise InvalidAnswer(f"the defence has a memory: {change} in the course of a unit")
    if change := context.changed(context.model(unit.row.subject.checkpoint)):
        raise InvalidAnswer(f"a defence {change}")
    timing = {"seconds": time.perf_counter() - started, "peak_memory_bytes": _peak_memory(context.device)}
    found = tally.adversarials.tensors() if tally.adversarials else {}
    pictures = tally.pictures.encoded() if tally.pictures else None
    rows = tally.rows(unit) if unit.scored else SCHEMA.empty_table()
    return UnitResult(unit, rows, tally.metadata(), timing, found, pictures)


def _peak_memory(device: torch.device) -> int:
    """Bytes: the device's peak in this unit on CUDA, the process's so far on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
