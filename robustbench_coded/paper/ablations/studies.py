"""Which runs a table of the paper needs: settings that all points share, points, studies by name."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from attacks.presets import STUDIED
from robustbench_coded.coding.sizes import FEWEST
from robustbench_coded.data import dataset, registry
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.options.config import DIGITS_LINF, LINF
from robustbench_coded.models.detect import construct
from robustbench_coded.models.pixel_model import blocks_of
from robustbench_coded.paper.training.config import TrainConfig, read_recipe
from robustbench_coded.paper.training.recipes import RECIPES, CodedRecipe, build_recipe


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
    def _train_data(self) -> dataset.Dataset:
        return registry.load_data(self.base.data, data_dir=self.base.data_dir, split="train")

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
