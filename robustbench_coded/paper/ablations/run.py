"""Trains and measures the runs that studies need and that are not there yet, and the rows that are kept of
them: an ablation goes on from two CSV files, and its tables are made from these.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from attacks import estimators, perturbation_budget, solver
from attacks.attack import read_attack
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


class AblationRecords:
    """``measurements.csv`` and ``history.csv`` of a folder, in which runs and measurements are made once.
    ``checkpoints/`` beside them holds the networks, which may be removed when nothing more is to be asked.

    Raises:
        InputError: the folder's files are not of an ablation.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.measurements: Records[Measurement] = Records(folder / "measurements.csv", Measurement)
        self.history: Records[EpochRecord] = Records(folder / "history.csv", EpochRecord)

    def epochs_of(self, config: TrainConfig) -> list[EpochRecord]:
        """The epochs of a run, be its checkpoint there or not."""
        return [row for row in self.history.rows if row.run == run_id(config)]


def run_id(config: TrainConfig) -> str:
    """The name of one run in the records."""
    return config.fingerprint()[:12]


def seeded(settings: AblationSettings, point: StudyPoint) -> list[TrainConfig]:
    """The runs of a point, one a seed."""
    first = point.config.seed
    return [dataclasses.replace(point.config, seed=seed) for seed in range(first, first + settings.seeds)]


def make_missing(
    records: AblationRecords,
    settings: AblationSettings,
    studies: Iterable[tuple[Study, Sequence[StudyPoint]]],
    *,
    quiet: bool = True,
) -> None:
    """Makes every measurement of these studies that is missing.

    Seeds are the outermost loop, so what a stopped ablation leaves has all points with fewer seeds.
    """
    jobs: dict[str, tuple[TrainConfig, dict[str, Inference]]] = {}  # a run and all that is asked of it
    for study, points in studies:
        for config in (config for point in points for config in seeded(settings, point)):
            _, asked = jobs.setdefault(run_id(config), (config, {}))
            asked |= {inference.name: inference for inference in study.inferences}
    ordered = sorted(jobs.values(), key=lambda job: job[0].seed)
    for number, (config, asked) in enumerate(ordered, 1):
        known = {row.key for row in records.measurements.rows}
        rows = [(i, row) for i in asked.values() for row in rows_of(settings, config, i)]
        if missing := [(i, row) for i, row in rows if row.key not in known]:
            recipe = recipes.recipe_name(config.recipe)
            title = f"{recipe}, seed {config.seed} ({number}/{len(ordered)})"
            path, score = trained(records, config, title, quiet=quiet)
            if score is None:
                records.measurements.add(row for _, row in missing)
            else:
                records.measurements.add(_measured(path, config, score, settings, missing))


def trained(
    records: AblationRecords, config: TrainConfig, title: str, *, quiet: bool
) -> tuple[Path, save.Score | None]:
    """The checkpoint of a run and its score on all test images; no score where the run diverged."""
    recipe = recipes.recipe_name(config.recipe)
    path = records.folder / "checkpoints" / f"{recipe}-{run_id(config)}.safetensors"
    recorded = bool(records.epochs_of(config))
    if recorded and (score := save.finished_score(path, config)) is not None:
        return path, score
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        result = loop.train(config, path, bar=listener.Progress(title, quiet=quiet))
    except loop.Diverged:
        return path, None
    if not recorded:
        records.history.add(
            EpochRecord(run_id(config), recipe, config.seed, row.epoch, *_rounded(row))
            for row in result.history
        )
    return path, result.test


def _rounded(row: listener.EpochRow) -> tuple[float, float | None, float | None]:
    held_out = (row.validation_loss, row.validation_accuracy)
    loss, accuracy = (None if value is None else round(value, 6) for value in held_out)
    return round(row.loss, 6), loss, accuracy


def histories(
    records: AblationRecords, settings: AblationSettings, points: Sequence[StudyPoint]
) -> list[EpochRecord]:
    """The epochs of all runs of these points; what is missing is trained."""
    configs = [config for point in points for config in seeded(settings, point)]
    for number, config in enumerate(configs, 1):
        if not records.epochs_of(config):
            trained(records, config, f"run {number} of {len(configs)}", quiet=False)
    runs = {run_id(config) for config in configs}
    return [row for row in records.history.rows if row.run in runs]


def rows_of(settings: AblationSettings, config: TrainConfig, inference: Inference) -> list[Measurement]:
    """The measurements of one run under one inference, without their figures."""
    standard = inference.n is None
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


def figures(
    records: AblationRecords, settings: AblationSettings, point: StudyPoint, inference: Inference
) -> list[Measurement]:
    """The measurements of a point under one inference, over its seeds."""
    known = {row.key: row for row in records.measurements.rows}
    keys = [row.key for config in seeded(settings, point) for row in rows_of(settings, config, inference)]
    return [known[key] for key in keys if key in known]


def _measured(
    path: Path,
    config: TrainConfig,
    score: save.Score,
    settings: AblationSettings,
    missing: Iterable[tuple[Inference, Measurement]],
) -> list[Measurement]:
    """The rows with their figures."""
    data = load_data(config.test_data or config.data, data_dir=config.data_dir, split="test")
    model = checkpoints.with_normalisation(loading.load_checkpoint(path), *data.batch(range(1)))
    model = model.to(device_named(config.device))
    rows = []
    for inference, row in missing:
        if row.attack == "clean" and inference.n is None:
            row = row._replace(accuracy=round(score.accuracy, 6), loss=round(score.loss, 6))
        else:
            row = row._replace(accuracy=round(accuracy(model, data, settings, inference, row.attack), 6))
        rows.append(row)
    return rows


_IMAGES = 1024  # in one forward
SEED = 0  # of the attacks and draws: all runs are attacked and scored with the same random numbers


def accuracy(
    model: pixel_model.PixelModel,
    data: Dataset,
    settings: AblationSettings,
    inference: Inference,
    attack: str = "clean",
) -> float:
    """Mean over the first ``limit`` test images and scoring draws made after the attack, a fraction."""
    k, budget = settings.k, perturbation_budget.PerturbationBudget("linf", settings.radius)
    device = next(model.parameters()).device
    defence: protocol.Defence = Standard(model)
    if inference.n is not None:
        defence = rci.RCI(model, k, inference.n, **inference.codec)
    draws = range(settings.draws if defence.randomised else 1)
    right = scored = 0
    every = batches.partition(min(settings.limit, len(data)), k)
    size = max(1, _IMAGES // (2 * k))
    for group in (every[start : start + size] for start in range(0, len(every), size)):
        indices = [batch.index for batch in group]
        pairs = [data.batch(batch.members) for batch in group]
        x, y = (torch.stack(tensors).to(device) for tensors in zip(*pairs, strict=True))
        if attack != "clean":
            named, target = read_attack(attack), Target(defence, k, SEED, indices)
            estimator = estimators.estimator_for(named, target, base=model, max_images=_IMAGES)
            generators = [streams.stream(SEED, index, "start") for index in indices]
            x = solver.solver_for(named).perturb(x, y, estimator, budget, generators)
        asked: dict[str, Any] = {"seed": SEED, "batches": indices, "purpose": "scoring", "draws": draws}
        answers, _ = predictions(defence, x, y, **asked, group_images=_IMAGES)
        hits = answers == y.cpu().numpy()
        for position, batch in enumerate(group):
            right += int(hits[:, position, : batch.scored].sum())
            scored += len(draws) * batch.scored
    return right / scored
