"""One unit of work: attack its batches, score what came out, return outcome rows."""

import resource
import sys
import time

import torch

from robustbench_coded.engine.results import UnitResult
from robustbench_coded.evaluation.execution.batch_unit import run_batches
from robustbench_coded.evaluation.execution.score import InvalidAnswer
from robustbench_coded.evaluation.execution.tally import Tally
from robustbench_coded.evaluation.execution.victim_unit import run_victims
from robustbench_coded.evaluation.execution.worker_context import Workbench
from robustbench_coded.evaluation.planning.plan import NULLS, Unit
from robustbench_coded.runs.adversarials import Adversarials
from robustbench_coded.runs.pictures import Pictures


def execute(bench: Workbench, unit: Unit) -> UnitResult:
    """Runs one unit.

    Raises:
        InvalidAnswer: the defence answered clean inputs with NaN, any with the wrong shape, or no longer
            answers as it did.
        Exception: whatever the defence or the attack raised; the engine makes it a recorded failure.
    """
    started = time.perf_counter()
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(bench.device)
    attacked = unit.row.attack not in NULLS
    keeps = bench.setup.config.keeps_adversarials and attacked
    # Reports show those of the strongest attack on whole batches.
    shows = attacked and str(unit.row.threat) == "batch/unknown" and unit.replicate == 0
    tally = Tally(adversarials=Adversarials() if keeps else None, pictures=Pictures() if shows else None)
    bench.defence(unit.row.subject)  # built and asked how it answers before it is attacked
    (run_victims if unit.row.threat.one_victim else run_batches)(bench, unit, tally)
    if change := bench.memory(unit.row.subject):
        raise InvalidAnswer(f"the defence has a memory: {change} in the course of a unit")
    timing = {"seconds": time.perf_counter() - started, "peak_memory_bytes": _peak_memory(bench.device)}
    found = tally.adversarials.tensors() if tally.adversarials else {}
    pictures = tally.pictures.encoded() if tally.pictures else None
    return UnitResult(unit, tally.rows(unit), tally.metadata(), timing, found, pictures)


def _peak_memory(device: torch.device) -> int:
    """Bytes: the device's peak in this unit on CUDA, the process's so far on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
