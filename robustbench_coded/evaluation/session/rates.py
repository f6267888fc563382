"""How long a gradient evaluation takes on this machine: for display and forecasts alone."""

import time
from collections.abc import Iterable
from statistics import median

from attacks import accelerator, gradients
from robustbench_coded.evaluation.options.device import gradient_of_sum
from robustbench_coded.evaluation.planning.cases import PlannedCase
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.models.prepare import tf32
from robustbench_coded.threads import torch_threads

TIMED_PIXELS = 64 * 32 * 32  # small images go through a network in larger pieces
TIMED_SECONDS = 0.25
LONG_SECONDS = 2.0  # beside which warming up is little, so that once will do
MOST_TIMES = 20
NO_MEMORY_SECONDS = 1.0  # for an image that could not be timed; its units say why


class Rates:
    """Seconds for an image forwarded and differentiated, timed once for each checkpoint: for display alone.

    A user's defence takes as long as it took when it was probed; our own take as long as their network.
    """

    def __init__(self, prepared: PreparedEvaluation):
        self._prepared = prepared
        self._timed: dict[str, float] = {}

    def seconds(self, costs: Iterable[tuple[PlannedCase, int]]) -> float:
        """Seconds that all workers take for so many gradient evaluations of each case."""
        return sum(images * self.of(case) for case, images in costs) / self._prepared.setup.workers

    def of(self, case: PlannedCase) -> float:
        """For one image of a case: through its defence, or through the base model that its attack asks."""
        subject, context = case.subject, self._prepared.context
        of_base = case.made_by is not None and case.made_by.knows == "transfer"
        if not of_base and not callable(getattr(context.defence(subject), "images", None)):
            return context.probe_seconds[subject] / subject.images
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
