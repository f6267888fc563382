"""Trains and measures the runs that studies need and that are not there yet, and the rows that are kept of
them: an ablation goes on from two CSV files, and its tables are made from these.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from attacks import naming, perturbation_budget, solving
from robustbench_coded.data.dataset import Dataset
from robustbench_coded.data.registry import load_data
from robustbench_coded.defences import protocol, rci
from robustbench_coded.defences.inferences import Standard
from robustbench_coded.evaluation.execution.score import predictions
from robustbench_coded.evaluation.execution.target import Target
from robustbench_coded.evaluation.options.device import device_named
from robustbench_coded.evaluation.planning import batches, streams
from robustbench_coded.evaluation.setup import checkpoints
from robustbench_coded.models import loading, pixel_model
from robustbench_coded.paper.ablations.studies import AblationSettings, Inference, Study, StudyPoint
from robustbench_coded.paper.studies.over_seeds import Records
from robustbench_coded.paper.training import listener, loop, recipes, save
from robustbench_coded.paper.training.config import TrainConfig


class Measurement(NamedTuple):
    """One accuracy of one run."""

    run: str  # digest of its configuration, seed included
    recipe: str
    seed: int
    inference: str
    attack: str
    k: int
    draws: int
    eps: float  # linf, pixel units; 0 for clean inputs
    examples: int
    accuracy: float | None  # None: the run diverged
    loss: float | None  # cross-entropy in nats, of standard inference on clean inputs

    @property
    def key(self) -> tuple[object, ...]:
        """Everything that decides the figures."""
        return self[:1] + self[3:9]


class EpochRecord(NamedTuple):
    """One epoch of one run."""

    run: str
    recipe: str
    seed: int
    epoch: int  # from 1
    loss: float
    validation_loss: float | None
    validation_accuracy: float | None


_IMAGES = 1024  # in one forward
SEED = 0  # of the attacks and draws: all runs are attacked and scored with the same random numbers


class Bench:
    """A network and the batches it is asked with.

    Args:
        model: pixels to logits.
        data: test images, of which the first ``limit`` of the settings are asked in batches of ``k``.
    """

    def __init__(
        self, model: pixel_model.PixelModel, data: Dataset, settings: AblationSettings, device: torch.device
    ):
        self.model = model.to(device)
        self._batches = batches.partition(min(settings.limit, len(data)), settings.k)
        self._data, self._k, self._draws, self._device = data, settings.k, settings.draws, device
        self._budget = perturbation_budget.PerturbationBudget("linf", settings.radius)

    def defence(self, inference: Inference) -> protocol.Defence:
        """The defence that an inference is."""
        if inference.n is None:
            return Standard(self.model)
        return rci.RCI(self.model, self._k, inference.n, **inference.codec)

    def accuracy(self, inference: Inference, attack: str = "clean") -> float:
        """Mean over examples and scoring draws made after the attack, a fraction."""
        defence = self.defence(inference)
        right = scored = 0
        size = max(1, _IMAGES // (2 * self._k))
        for start in range(0, len(self._batches), size):
            group = self._batches[start : start + size]
            x, y = self._inputs(group)
            if attack != "clean":
                x = self._perturbed(defence, attack, x, y, group)
            draws = range(self._draws if defence.randomised else 1)
            answers, _ = predictions(
                defence,
                x,
                y,
                seed=SEED,
                batches=[batch.index for batch in group],
                purpose="scoring",
                draws=draws,
                group_images=_IMAGES,
            )
            hits = answers == y.cpu().numpy()
            for position, batch in enumerate(group):
                right += int(hits[:, position, : batch.scored].sum())
                scored += len(draws) * batch.scored
        return right / scored

    def _inputs(self, group: Sequence[batches.Batch]) -> tuple[Tensor, Tensor]:
        pairs = [self._data.batch(batch.members) for batch in group]
        x, y = (torch.stack(tensors).to(self._device) for tensors in zip(*pairs, strict=True))
        return x, y

    def _perturbed(
        self, defence: protocol.Defence, attack: str, x: Tensor, y: Tensor, group: Sequence[batches.Batch]
    ) -> Tensor:
        named, indices = naming.read_attack(attack), [batch.index for batch in group]
        target = Target(defence, self._k, SEED, indices)
        estimator = solving.estimator_for(named, target, base=self.model, max_images=_IMAGES)
        generators = [streams.stream(SEED, index, "start") for index in indices]
        return solving.solver_for(named).perturb(x, y, estimator, self._budget, generators)


def run_id(config: TrainConfig) -> str:
    """The name of one run in the records."""
    return config.fingerprint()[:12]


@dataclass
class Job:
    """One training and all that is asked of it, whichever studies ask."""

    config: TrainConfig
    inferences: dict[str, Inference] = field(default_factory=dict)


class Laboratory:
    """Runs and measurements in one folder, each made once.

    ``measurements.csv`` and ``history.csv`` are the results; ``checkpoints/`` holds the networks, which
    may be removed when nothing more is to be asked of them.

    Args:
        folder: goes on with what it holds.
        settings: of all studies.
        quiet: whether trainings show nothing.
    Raises:
        InputError: the folder's files are not of an ablation.
    """

    def __init__(self, folder: Path, settings: AblationSettings, *, quiet: bool = True):
        self.folder, self.settings, self._quiet = folder, settings, quiet
        self.measurements: Records[Measurement] = Records(folder / "measurements.csv", Measurement)
        self.history: Records[EpochRecord] = Records(folder / "history.csv", EpochRecord)
        self._device = device_named(settings.base.device)

    def seeded(self, point: StudyPoint) -> list[TrainConfig]:
        """The runs of a point, one a seed."""
        first = point.config.seed
        return [
            dataclasses.replace(point.config, seed=seed) for seed in range(first, first + self.settings.seeds)
        ]

    def study(self, studies: Iterable[tuple[Study, Sequence[StudyPoint]]]) -> None:
        """Makes every measurement of these studies that is missing.

        Seeds are the outermost loop, so what a stopped ablation leaves has all points with fewer seeds.
        """
        jobs: dict[str, Job] = {}
        for study, points in studies:
            for point in points:
                for config in self.seeded(point):
                    job = jobs.setdefault(run_id(config), Job(config))
                    job.inferences |= {inference.name: inference for inference in study.inferences}
        ordered = sorted(jobs.values(), key=lambda job: job.config.seed)
        for number, job in enumerate(ordered, 1):
            missing = [i for i in job.inferences.values() if not self._measured(job.config, i)]
            if missing:
                recipe = recipes.recipe_name(job.config.recipe)
                self._measure(
                    job.config, missing, f"{recipe}, seed {job.config.seed} ({number}/{len(ordered)})"
                )

    def train(self, config: TrainConfig, title: str) -> tuple[Path, save.Score | None]:
        """The checkpoint of a run and its score on all test images; no score where the run diverged."""
        recipe = recipes.recipe_name(config.recipe)
        path = self.folder / "checkpoints" / f"{recipe}-{run_id(config)}.safetensors"
        recorded = self.recorded(config)
        if recorded and (score := save.finished_score(path, config)) is not None:
            return path, score
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            result = loop.train(config, path, bar=listener.ProgressBar(title, quiet=self._quiet))
        except loop.Diverged:
            return path, None
        if not recorded:
            self.history.add(
                EpochRecord(
                    run_id(config),
                    recipe,
                    config.seed,
                    row.epoch,
                    round(row.loss, 6),
                    _rounded(row.validation_loss),
                    _rounded(row.validation_accuracy),
                )
                for row in result.history
            )
        return path, result.test

    def recorded(self, config: TrainConfig) -> bool:
        """True if a run's epochs are in the history, be its checkpoint there or not."""
        return any(row.run == run_id(config) for row in self.history.rows)

    def _measured(self, config: TrainConfig, inference: Inference) -> bool:
        known = {row.key for row in self.measurements.rows}
        return all(row.key in known for row in self._rows(config, inference))

    def _measure(self, config: TrainConfig, inferences: Sequence[Inference], title: str) -> None:
        path, score = self.train(config, title)
        known = {row.key for row in self.measurements.rows}
        missing = [(i, row) for i in inferences for row in self._rows(config, i) if row.key not in known]
        if score is None:
            self.measurements.add(row for _, row in missing)
            return
        data = load_data(config.test_data or config.data, data_dir=config.data_dir, split="test")
        model = checkpoints.with_normalisation(loading.load_checkpoint(path), *data.batch(range(1)))
        bench = Bench(model, data, self.settings, self._device)
        rows = []
        for inference, row in missing:
            if row.attack == "clean" and inference.n is None:
                row = row._replace(accuracy=round(score.accuracy, 6), loss=round(score.loss, 6))
            else:
                row = row._replace(accuracy=round(bench.accuracy(inference, row.attack), 6))
            rows.append(row)
        self.measurements.add(rows)

    def _rows(self, config: TrainConfig, inference: Inference) -> list[Measurement]:
        """The measurements of one run under one inference, without their figures."""
        settings, standard = self.settings, inference.n is None
        return [
            Measurement(
                run_id(config),
                recipes.recipe_name(config.recipe),
                config.seed,
                inference.name,
                attack,
                settings.k,
                1 if standard else settings.draws,
                0.0 if attack == "clean" else round(settings.radius, 6),
                0 if standard and attack == "clean" else settings.limit,  # 0: all test images
                None,
                None,
            )
            for attack in ("clean", *inference.attacks)
        ]

    def figures(self, point: StudyPoint, inference: Inference) -> list[Measurement]:
        """The measurements of a point under one inference, over its seeds."""
        known = {row.key: row for row in self.measurements.rows}
        keys = [row.key for config in self.seeded(point) for row in self._rows(config, inference)]
        return [known[key] for key in keys if key in known]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
