"""How long units take here, for display and for the guard against units that hang: images times the seconds
that one image takes. Nothing is decided by it, but for what a wish for time is turned into once.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from attacks import accelerator, gradients, naming
from robustbench_coded.evaluation.options.device import gradient_of_sum, worker_count
from robustbench_coded.evaluation.planning.cases import PlannedCase, ProbedSubject, Unit
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.models.prepare import tf32
from robustbench_coded.schema.words import CONTROLS
from robustbench_coded.threads import torch_threads

TIMED_PIXELS = 64 * 32 * 32  # small images go through a network in larger pieces
TIMED_SECONDS = 0.25
LONG_SECONDS = 2.0  # beside which warming up is little, so that once will do
MOST_TIMES = 20
NO_MEMORY_SECONDS = 1.0  # for an image that could not be timed; its units say why


@dataclass(frozen=True)
class Forecast:
    """What lies ahead, in image gradients, before a step runs.

    Attributes:
        images: of its units that are not committed yet.
        later: of what runs after it whatever comes out; an open verdict adds more.
        again: units of an interrupted run whose perturbed inputs are made again first; ``images`` has them.
    """

    images: int
    later: int = 0
    again: int = 0


class Rates:
    """Seconds for an image forwarded and differentiated, timed once for each checkpoint.

    A user's defence takes as long as it took when it was probed; our own take as long as their network.
    """

    def __init__(self, prepared: PreparedEvaluation):
        self._prepared = prepared
        self._timed: dict[str, float] = {}

    def seconds(self, unit: Unit) -> float:
        """Seconds that a unit takes one worker at most, about."""
        return unit.images * self.of_case(unit.case)

    def of_case(self, case: PlannedCase) -> float:
        """Seconds for an image of a case."""
        of_base = case.attack not in CONTROLS and naming.parse(case.attack).estimator == "transfer"
        return self.of(case.subject, of_base=of_base)

    def together(self, units: Iterable[Unit]) -> float:
        """Seconds that all workers take for them."""
        context = self._prepared.context
        return sum(map(self.seconds, units)) / worker_count(self._prepared.config.workers, context.device)

    def of(self, subject: ProbedSubject, *, of_base: bool = False) -> float:
        """For one image of a subject, or of its base model."""
        probed = self._prepared.context.probe_seconds.get(subject)
        if probed is not None and not of_base:  # of a forward and a backward of a batch
            return probed / subject.images
        if subject.checkpoint not in self._timed:
            self._timed[subject.checkpoint] = self._time(subject.checkpoint)
        return self._timed[subject.checkpoint]

    @tf32(True)
    def _time(self, checkpoint: str) -> float:
        context, setup = self._prepared.context, self._prepared.setup
        height, width = context.data.image_shape[-2:]
        fitting = setup.fitting.get(checkpoint, setup.group_images)
        count = max(1, min(TIMED_PIXELS // (height * width), fitting, setup.examples))
        x = context.data.batch(range(count))[0].to(context.device)
        model = context.gradients(checkpoint).model
        taken: list[float] = []
        with torch_threads(setup.threads):
            while len(taken) < MOST_TIMES and sum(taken) < (TIMED_SECONDS if taken[2:] else LONG_SECONDS):
                start = time.perf_counter()
                try:
                    gradient_of_sum(model, x)
                except (RuntimeError, MemoryError) as error:
                    if gradients.is_out_of_memory(error):
                        return NO_MEMORY_SECONDS
                    raise
                accelerator.synchronise(context.device)
                taken.append(time.perf_counter() - start)
        # The first pays for warming up; the others for whatever else the machine does, as the run will.
        return median(taken[1:] or taken) / count
