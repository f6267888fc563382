"""How long units take here: counts of images times the seconds that one image takes.

Scoring and attacks on the defence take as long as its answers; attacks on its base model as long as the
model's. Coded inference is timed by itself, for encoding and decoding take time, too. A user's defence takes
as long as it took when it was probed. Attacks differentiate a prepared model; what is scored is asked of the
original. The rates of a run folder are kept: what was decided by them is decided again.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from statistics import median

import torch
from torch import Tensor

from attacks import accelerator, catalogue, gradients, naming
from robustbench_coded.defences.protocol import Defence, logits_grouped
from robustbench_coded.evaluation.execution import in_memory, target
from robustbench_coded.evaluation.options.device import gradient_of_sum, worker_count
from robustbench_coded.evaluation.planning import cases, plan
from robustbench_coded.evaluation.planning.batches import Batch, Extents, choose_victims
from robustbench_coded.evaluation.setup import prepare
from robustbench_coded.models.pixel_model import PixelModel
from robustbench_coded.models.prepare import tf32
from robustbench_coded.schema.words import CONTROLS
from robustbench_coded.threads import torch_threads

TIMED_IMAGES = 64
NO_MEMORY_SECONDS = 1.0  # for an image that could not be timed; its units say why
TIMED_PIXELS = TIMED_IMAGES * 32 * 32  # on a CPU, where small images go through a network in larger pieces
TIMED_SECONDS = 0.25
LONG_SECONDS = 2.0  # beside which warming up is little, so that once will do
MOST_TIMES = 20
DIGITS = 9  # of a rate in run.json
# Queries that an example costs which falls, about, where an attack ends at the first wrong answer.
FALLS_AFTER = 6

Ask = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Forecast:
    """What lies ahead, before anything runs.

    Attributes:
        units, images: units still to do, and the image gradients they cost.
        again: units whose perturbed inputs are made again before that; ``images`` has them, too.
        done: units that an earlier run has already committed.
        seconds: about how long that takes here.
    """

    units: int
    images: int
    done: int
    seconds: float
    again: int = 0


class Seconds:
    """Seconds of units.

    Args:
        rates: seconds for one image that are known already, by what is forwarded or differentiated.

    Attributes:
        rates: the same with those that were timed since.
    """

    def __init__(self, prepared: prepare.PreparedEvaluation, rates: Mapping[str, float] | None = None):
        self._prepared = prepared
        self.rates = dict(rates or {})

    def of(self, unit: cases.Unit) -> float:
        """Seconds that a unit takes one worker at most, about."""
        case, subject = unit.case, unit.case.subject
        batches = len(unit.victims) or sum(map(len, unit.groups))
        scored = unit.images
        attacks = case.attack not in CONTROLS and case.submission is None
        if attacks and not unit.random_batches:  # all others are answered and nothing else
            scored = min(scored, batches * plan.scoring_images(self._prepared.conditions, case))
        attacked = unit.images - scored
        seconds = 0.0
        if scored and unit.scored:  # a forward is counted as a third of a gradient
            seconds += 3 * scored * self.answer(subject)
        if attacked:
            of_base = naming.parse(case.attack).estimator == "transfer"
            seconds += attacked * self.gradient(subject, of_base=of_base)
        return seconds

    def answer(self, subject: cases.ProbedSubject) -> float:
        """For a forward of an image through the defence as it is scored."""
        context = self._prepared.context
        probed = context.probe_seconds.get(subject)
        if probed is not None:  # of a forward and a backward, or of a forward alone where there is no other
            return self._known("plugin answer", subject, lambda: probed / subject.images / 3)
        through = context.defence(subject) if _encodes(subject) else None

        @torch.no_grad()
        def answer(ask: Ask, x: Tensor) -> None:
            ask(x)

        model = context.model(subject.checkpoint)
        return self._known("answer", subject, lambda: self._time(subject, model, through, answer))

    def gradient(self, subject: cases.ProbedSubject, *, of_base: bool = False) -> float:
        """For a forward and backward of an image as attacks ask for it.

        Args:
            of_base: whether the base model is attacked in place of the defence.
        """
        context = self._prepared.context
        probed = context.probe_seconds.get(subject)
        if probed is not None and not of_base:
            return self._known("plugin gradient", subject, lambda: probed / subject.images)
        through = None if of_base or not _encodes(subject) else context.attack_defence(subject)

        def differentiate(ask: Ask, x: Tensor) -> None:
            with tf32(True):
                # Where it has none, its relaxed gradients are what costs, and somewhat more.
                gradient_of_sum(ask, x)

        model = context.gradients(subject.checkpoint).model
        name = "gradient of the network" if through is None else "gradient"
        return self._known(name, subject, lambda: self._time(subject, model, through, differentiate))

    def _known(self, what: str, subject: cases.ProbedSubject, timed: Callable[[], float]) -> float:
        key = f"{what}: {subject.checkpoint}"
        if what.startswith("plugin") or (_encodes(subject) and not what.endswith("network")):
            key += f" behind {subject.label}, K={subject.k}"
        if key not in self.rates:
            self.rates[key] = max(round(timed(), DIGITS), 10.0**-DIGITS)
        return self.rates[key]

    def _time(
        self,
        subject: cases.ProbedSubject,
        model: PixelModel,
        through: Defence | None,
        timed: Callable[[Ask, Tensor], None],
    ) -> float:
        context, setup = self._prepared.context, self._prepared.setup
        ask, x, images = self._question(subject, model, through)
        taken: list[float] = []
        with torch_threads(setup.threads):
            while len(taken) < MOST_TIMES and sum(taken) < (TIMED_SECONDS if taken[2:] else LONG_SECONDS):
                start = time.perf_counter()
                try:
                    timed(ask, x)
                except (RuntimeError, MemoryError) as error:
                    if gradients.is_out_of_memory(error):
                        return NO_MEMORY_SECONDS
                    raise
                accelerator.synchronise(context.device)
                taken.append(time.perf_counter() - start)
        # The first pays for warming up; the others for whatever else the machine does, as the run will.
        return median(taken[1:] or taken) / images

    def _question(
        self, subject: cases.ProbedSubject, model: PixelModel, through: Defence | None
    ) -> tuple[Ask, Tensor, int]:
        """What is asked, with which inputs, and how many images pass through the network."""
        context, setup = self._prepared.context, self._prepared.setup
        height, width = context.data.image_shape[-2:]
        on_cpu = context.device.type == "cpu"
        most = min(TIMED_PIXELS // (height * width), setup.group_images) if on_cpu else 0
        fitting = setup.fitting.get(subject.checkpoint, setup.group_images)
        count = min(max(TIMED_IMAGES, most), fitting, setup.examples)
        x = context.data.batch(range(count))[0].to(context.device)
        if through is None:
            return model, x, target.images_of(model.network, count)
        groups = max(1, most // subject.images)
        batches = x[torch.arange(groups * subject.k) % count].unflatten(0, (groups, subject.k))
        draws = target.draws_of(through, subject.k, setup.conditions.seed, [-1] * groups, "probe", 0)

        def ask(x: Tensor) -> Tensor:
            return logits_grouped(through, x, draws)

        return ask, batches, groups * subject.images


def _encodes(subject: cases.ProbedSubject) -> bool:
    """Whether it is ours and does more than to ask the model."""
    return subject.batch_dependent and not in_memory.is_plugin(subject.spec)


class RowCosts:
    """Seconds of rows, on any number of examples.

    Attributes:
        workers: how many processes share them.
    """

    def __init__(self, prepared: prepare.PreparedEvaluation, seconds: Seconds):
        self._prepared, self._seconds = prepared, seconds
        self.config = prepared.config
        self.workers = worker_count(self.config.workers, prepared.context.device)
        self._each: dict[cases.PlannedCase, float] = {}

    def of(self, case: cases.PlannedCase, rounds: int) -> float:
        """Seconds that a row takes in so many rounds, if nothing ends early."""
        if rounds == 0:
            return 0.0
        if case not in self._each:
            units = self.maker(1).units(case)
            batches = sum(len(unit.victims) or sum(map(len, unit.groups)) for unit in units)
            self._each[case] = sum(map(self._seconds.of, units)) / max(batches, 1) / self.workers
        return self._each[case] * self.batches(case, rounds)

    def likely(self, case: cases.PlannedCase, rounds: int, standing: float) -> float:
        """The same where attacks end at the first wrong answer.

        Args:
            standing: the share of examples that keep an attack busy to its end.
        """
        cost = self.of(case, rounds)
        if case.attack in CONTROLS or case.submission is not None or not self.config.drop:
            return cost
        name = naming.parse(case.attack)
        if name.third_party is not None or name.estimator != "fresh" or not case.subject.independent:
            return cost
        if not catalogue.CATALOGUE[name.algorithm].stops_early:
            return cost
        fallen = min(1.0, FALLS_AFTER / max(1, plan.queries_of(name, randomised=False)[0]))
        return cost * (standing + (1 - standing) * fallen)

    def batches(self, case: cases.PlannedCase, rounds: int) -> int:
        """Batches, or victims, of a row in so many rounds."""
        batches, extents = self._batches(case.subject), self._prepared.extents
        if case.threat.one_victim:
            chosen = (batches, self.config.victims, self.config.seed)
            if extents is None:
                return len(choose_victims(*chosen))
            return sum(map(len, Extents(extents.ends, {case: rounds}).victim_parts(case, *chosen)))
        if extents is None:
            return len(batches)
        return min(len(batches), ceil(extents.ends[rounds - 1] / case.subject.k))

    def images_in_full(self, case: cases.PlannedCase) -> int:
        """Image gradients of a row on all examples, scoring included."""
        return self._prepared.maker().images(case)

    def maker(self, rounds: int) -> plan.UnitMaker:
        """Cuts rows that have not begun into the units of so many rounds, others as far as they run."""
        extents = self._prepared.extents
        return self._prepared.maker(extents and Extents(extents.ends, extents.reached, rounds))

    def _batches(self, subject: cases.ProbedSubject) -> list[Batch]:
        return plan.batches_for(self._prepared.conditions, subject, self._prepared.setup.examples)
