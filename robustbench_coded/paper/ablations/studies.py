"""Which runs a table of the paper needs, and the rows that are kept of them: an ablation trains and measures
those that are not there yet, and goes on from two CSV files.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch

from attacks import estimators, perturbation_budget, solver
from attacks.attack import read_attack
from attacks.presets import STUDIED
from robustbench_coded.coding.sizes import FEWEST
from robustbench_coded.data.dataset import Dataset
from robustbench_coded.data.registry import load_data
from robustbench_coded.defences import protocol, rci
from robustbench_coded.defences.inferences import Standard
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.score import predictions
from robustbench_coded.evaluation.execution.target import Target
from robustbench_coded.evaluation.options.config import DIGITS_LINF, LINF
from robustbench_coded.evaluation.options.device import device_named
from robustbench_coded.evaluation.planning import batches, streams
from robustbench_coded.evaluation.setup import checkpoints
from robustbench_coded.models.detect import construct
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.pixel_model import PixelModel, blocks_of
from robustbench_coded.paper.studies.over_seeds import Records
from robustbench_coded.paper.training.config import (
    RECIPES,
    CodedRecipe,
    TrainConfig,
    build_recipe,
    read_recipe,
    recipe_name,
)
from robustbench_coded.paper.training.loader import EpochRow, Progress
from robustbench_coded.paper.training.loop import Diverged, Score, finished_score, train


@dataclass(frozen=True)
class StudyPoint:
    """One setting of what a study varies.

    Attributes:
        name: the setting, as the table's first column shows it.
        config: the run with the first seed.
        x: its place on the figure's axis; None where settings have no order.
        paper: the key of its row in the paper's table; None for a setting the paper does not have.
    """

    name: str
    config: TrainConfig
    x: float | None = None
    paper: str | None = None


@dataclass(frozen=True)
class Inference:
    """A way of asking a trained network.

    Attributes:
        name: as the table's columns show it.
        n: coded inputs of RCI for a batch of K, as for ``coding.sizes.coded_size``; None asks the network
            itself.
        codec: ``nodes`` and ``order`` of RCI's codec where they are not the defaults.
        attacks: names of attacks beside clean inputs.
    """

    name: str
    n: str | None = None
    codec: Mapping[str, Any] = field(default_factory=dict)
    attacks: tuple[str, ...] = ()


STANDARD = Inference("standard", attacks=STUDIED[:1])
RCI_K = Inference("RCI N=K", "K")
RCI = Inference("RCI N=1.5K", "1.5K", attacks=STUDIED)
USUAL = (STANDARD, RCI_K, RCI)


# Nine steps an epoch: the digits are few, so the rate is higher and nothing decays. Seconds a run.
DIGITS = {"epochs": 20, "learning_rate": 0.2, "weight_decay": 0.0}
_DIGITS_BALL = {"eps": 0.2, "steps": 7, "step_size": 0.05}
DIGITS_OPTIONS = {"pgd-at": _DIGITS_BALL, "trades": _DIGITS_BALL}


@dataclass(frozen=True)
class AblationSettings:
    """Attributes:
    base: coded training with the paper's options and the first seed; points differ from it in one respect.
    seeds: runs a point, with independent train-validation splits.
    limit: test images that RCI answers and attacks perturb; the first ones, all where there are fewer.
    draws: scoring draws of RCI.
    eps: radius of the attacks, linf in pixel units; None for 8/255, on digits 0.3.
    """

    base: TrainConfig
    seeds: int = 5
    limit: int = 640
    draws: int = 10
    eps: float | None = None

    def __post_init__(self) -> None:
        for option, value in (("--seeds", self.seeds), ("--limit", self.limit), ("--draws", self.draws)):
            if value < 1:
                raise InputError(f"{option} {value} is too small; give 1 or more")
        if self.limit < FEWEST:
            raise InputError(f"--limit {self.limit} is too small for a batch; give {FEWEST} or more")
        if not 0 <= self.radius <= 1:
            raise InputError(f"--eps {self.radius:g} is beyond the range of pixels; write 8/255, not 8")

    @property
    def radius(self) -> float:
        """``eps`` with its default filled in."""
        usual = DIGITS_LINF if self.base.data == "digits" else LINF
        return usual if self.eps is None else self.eps

    @property
    def k(self) -> int:
        """Batch size of training, and of RCI."""
        return self.base.batch_size

    @cached_property
    def _train_data(self) -> Dataset:
        return load_data(self.base.data, data_dir=self.base.data_dir, split="train")

    @property
    def train_images(self) -> int:
        """Training images, those held out among them."""
        return len(self._train_data)

    @cached_property
    def block_count(self) -> int:
        """Blocks of the architecture."""
        data = self._train_data
        return len(blocks_of(construct(self.base.arch, data.classes, data.image_shape[0])))

    def coded(self, **options: Any) -> TrainConfig:
        """Coded training with other options."""
        assert isinstance(self.base.recipe, CodedRecipe)
        return dataclasses.replace(self.base, recipe=dataclasses.replace(self.base.recipe, **options))

    def trained_by(self, recipe: str, **changes: Any) -> TrainConfig:
        """Training by another recipe, with its paper's options."""
        if recipe == "coded":
            return dataclasses.replace(self.base, **changes)
        options = DIGITS_OPTIONS.get(recipe) if self.base.data == "digits" else None
        return dataclasses.replace(self.base, recipe=build_recipe(recipe, options), **changes)


def base_config(**given: Any) -> TrainConfig:
    """The coded run that an ablation starts from.

    Args:
        given: fields of ``TrainConfig`` and options of coded training.
    """
    digits = given.get("data") == "digits" and given.get("schedule") != "paper"
    return read_recipe("coded", **{**(DIGITS if digits else {}), **given})


ORDERS = tuple(
    Inference(f"RCI N=1.5K, order {order}", "1.5K", {"order": order}, STUDIED) for order in (1, 3, 5)
)
NODES = tuple(
    Inference(f"RCI N=1.5K, {nodes}", "1.5K", {"nodes": nodes}, STUDIED) for nodes in ("chebyshev", "uniform")
)
# The sets of the paper's Table 8.
PAPERS_SETS: tuple[tuple[int, ...], ...] = (
    (0,), (3,), (0, 1), (0, 2), (1, 3), (0, 1, 2), (0, 1, 2, 3), (0, 1, 2, 3, 4),
)  # fmt: skip


Points = Callable[[AblationSettings], list[StudyPoint]]


@dataclass(frozen=True)
class Study:
    """One table.

    Attributes:
        name: as given to ``csrobust paper ablate``.
        title: what is varied, in words.
        head: title of the column that says so.
        table: the paper's table, if it has one.
        points: the runs for these settings.
        inferences: how each of them is asked.
    """

    name: str
    title: str
    head: str
    table: str | None
    points: Points
    inferences: tuple[Inference, ...] = USUAL


def _n(settings: AblationSettings) -> list[StudyPoint]:
    points = []
    # The paper's sizes are for K = 128; at another K they keep their ratio to it.
    for usual in (110, 130, 150, 170, 190):
        n = round(usual * settings.k / 128)
        ratio = n / settings.k
        paper = str(n) if settings.k == 128 else None
        points.append(StudyPoint(str(n), settings.coded(n_start=ratio, n_end=ratio), n, paper))
    return points


def _mu(settings: AblationSettings) -> list[StudyPoint]:
    weights = (0.1, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0)
    return [StudyPoint(f"{mu:g}", settings.coded(mu=mu), mu, f"{mu:g}") for mu in weights]


def _blocks(settings: AblationSettings) -> list[StudyPoint]:
    count = settings.block_count
    points = []
    for blocks in usual_sets(count):
        name = ",".join(map(str, blocks))
        # All blocks are the whole network: the run that the other studies have, too.
        coded = () if len(blocks) == count else blocks
        points.append(StudyPoint(name, settings.coded(blocks=coded), paper=name if count == 5 else None))
    return points


def usual_sets(count: int) -> list[tuple[int, ...]]:
    """The paper's sets that a network of ``count`` blocks has, and the whole network; of three blocks all."""
    if count <= 3:
        every = [tuple(i for i in range(count) if mask >> i & 1) for mask in range(1, 2**count)]
        return sorted(every, key=lambda blocks: (len(blocks), blocks))
    sets = [blocks for blocks in PAPERS_SETS if blocks[-1] < count]
    whole = tuple(range(count))
    return sets if whole in sets else [*sets, whole]


def _dropout(settings: AblationSettings) -> list[StudyPoint]:
    points = []
    for recipe in ("erm", "coded"):
        for rate in (0.0, 0.1):
            name = f"{recipe}, dropout {rate:g}" if rate else recipe
            config = settings.trained_by(recipe, dropout=rate)
            points.append(StudyPoint(name, config, paper=f"{recipe}_dropout" if rate else recipe))
    return points


def _codec(option: str, *values: Any) -> Points:
    """Points with every value of one of the codec's options, ``order`` or ``nodes``, beside ERM."""

    def points(settings: AblationSettings) -> list[StudyPoint]:
        coded = [StudyPoint(str(value), settings.coded(**{option: value})) for value in values]
        return [StudyPoint("erm (no codec)", settings.trained_by("erm")), *coded]

    return points


def recipe_points(settings: AblationSettings, names: Sequence[str] = tuple(RECIPES)) -> list[StudyPoint]:
    """A point for each recipe.

    Raises:
        InputError: an unknown one.
    """
    for name in names:
        build_recipe(name)
    return [StudyPoint(name, settings.trained_by(name), paper=name) for name in names]


STUDIES = {
    study.name: study
    for study in (
        Study("recipe", "Training recipes", "training", "Table 1", recipe_points),
        Study("n", "Fixed number of coded inputs in training", "N", "Table 6", _n),
        Study("mu", "Weight of the coded path", "mu", "Table 7", _mu),
        Study("blocks", "Blocks on the coded path", "blocks", "Table 8", _blocks),
        Study("dropout", "Dropout after the second batch-norm", "training", "Table 9", _dropout),
        Study(
            "order",
            "Order of the splines, in training (rows) and in RCI (columns)",
            "order in training",
            None,
            _codec("order", 1, 3, 5),
            (STANDARD, *ORDERS),
        ),
        Study(
            "nodes",
            "Interpolation points, in training (rows) and in RCI (columns)",
            "points in training",
            None,
            _codec("nodes", "chebyshev", "uniform"),
            (STANDARD, *NODES),
        ),
    )
}


def study_named(name: str) -> Study:
    """A study by its name.

    Raises:
        InputError: there is none of that name.
    """
    if name not in STUDIES:
        raise InputError(f"there is no ablation of {name!r}; choose from {', '.join(STUDIES)}")
    return STUDIES[name]


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
            recipe = recipe_name(config.recipe)
            title = f"{recipe}, seed {config.seed} ({number}/{len(ordered)})"
            path, score = trained(records, config, title, quiet=quiet)
            if score is None:
                records.measurements.add(row for _, row in missing)
            else:
                records.measurements.add(_measured(path, config, score, settings, missing))


def trained(
    records: AblationRecords, config: TrainConfig, title: str, *, quiet: bool
) -> tuple[Path, Score | None]:
    """The checkpoint of a run and its score on all test images; no score where the run diverged."""
    recipe = recipe_name(config.recipe)
    path = records.folder / "checkpoints" / f"{recipe}-{run_id(config)}.safetensors"
    recorded = bool(records.epochs_of(config))
    if recorded and (score := finished_score(path, config)) is not None:
        return path, score
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        result = train(config, path, bar=Progress(title, quiet=quiet))
    except Diverged:
        return path, None
    if not recorded:
        records.history.add(
            EpochRecord(run_id(config), recipe, config.seed, row.epoch, *_rounded(row))
            for row in result.history
        )
    return path, result.test


def _rounded(row: EpochRow) -> tuple[float, float | None, float | None]:
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
            recipe_name(config.recipe),
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
    score: Score,
    settings: AblationSettings,
    missing: Iterable[tuple[Inference, Measurement]],
) -> list[Measurement]:
    """The rows with their figures."""
    data = load_data(config.test_data or config.data, data_dir=config.data_dir, split="test")
    model = checkpoints.with_normalisation(load_checkpoint(path), *data.batch(range(1)))
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
    model: PixelModel,
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
