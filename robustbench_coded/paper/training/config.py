"""Everything that decides a training run, from Python or from a TOML file, and its learning rates."""

import dataclasses
import hashlib
import json
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from robustbench_coded.errors import InputError, did_you_mean
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.paper.training.recipes import (
    Erm,
    Recipe,
    Share,
    build_recipe,
    checked,
    option_names,
    recipe_name,
    recipe_options,
)

WARM_UP = 0.3  # share of a one-cycle run in which the rate rises
PAPER_EPOCHS = 350  # arXiv 2510.00253, appendix E.1, CIFAR-10 and CIFAR-100
PAPER_MILESTONES = (100, 250)


def one_cycle(progress: float, peak: float) -> float:
    """Linearly up to ``peak`` over the first 30% of the run, then linearly down to 0.

    The triangle of arXiv 1708.07120; ``progress`` goes from 0 to 1 over the run.
    """
    if progress < WARM_UP:
        return peak * progress / WARM_UP
    return peak * (1 - progress) / (1 - WARM_UP)


def milestones(epoch: int, at: Sequence[int], initial: float) -> float:
    """``initial``, divided by 10 at each epoch of ``at``; epochs count from 0."""
    return initial * 0.1 ** sum(epoch >= milestone for milestone in at)


Schedule = Literal["one-cycle", "paper", "milestones"]
Augmentation = Literal["auto", "none", "shift", "shift-flip"]
Precision = Literal["auto", "float32", "bfloat16"]

Count = Annotated[int, Meta(ge=1)]


@dataclass(frozen=True)
class TrainConfig:
    """A training run: SGD with momentum on one data set.

    Attributes:
        arch: name of an architecture, as ``csrobust list models`` prints it.
        data: training images, a name for ``load_data``.
        recipe: the loss with its options.
        epochs: passes over the training images; by default 350 under ``paper``, else 30.
        batch_size: images a step.
        learning_rate: peak (one-cycle) or initial (milestones).
        schedule: ``one-cycle``; ``paper``: divided by 10 at epochs 100 and 250; or ``milestones``.
        milestones: epochs at which the rate is divided by 10, under ``milestones``.
        momentum, weight_decay: of SGD; the decay applies to all parameters.
        dropout: rate behind the second batch-norm of every residual block (arXiv 2302.06112).
        augmentation: ``auto`` shifts and flips colour images and leaves grey ones alone.
        validation: share of the training images held out to choose the best epoch; 0 trains on all of them.
        seed: decides initialisation, split, order, augmentation and the recipe's randomness.
        precision: of convolutions and products; ``auto`` is bfloat16 on a GPU that has it, else float32.
        test_data: images that the result is scored on; the test split of ``data`` unless given.
        data_dir: where named data are looked for first.
        start: a checkpoint whose weights are trained further: a file, or the name of a shipped one.
        defence: the network is trained behind it, as for ``--defence`` of ``csrobust eval``.
        device: ``auto`` is CUDA where there is one.
        compile: whether the network is compiled; None compiles on CUDA.
    """

    arch: str
    data: str
    recipe: Recipe = field(default_factory=Erm)
    epochs: Count | None = None
    batch_size: Annotated[int, Meta(ge=4)] = 128
    learning_rate: Annotated[float, Meta(ge=0, le=1e6)] = 0.1
    schedule: Schedule = "one-cycle"
    milestones: tuple[Count, ...] = ()
    momentum: Share = 0.9
    weight_decay: Annotated[float, Meta(ge=0, le=1e6)] = 5e-4
    dropout: Annotated[float, Meta(ge=0, le=0.99)] = 0.0
    augmentation: Augmentation = "auto"
    validation: Annotated[float, Meta(ge=0, le=0.9)] = 0.1
    seed: Annotated[int, Meta(ge=0)] = 0
    precision: Precision = "auto"
    test_data: str | None = None
    start: str | None = None
    defence: str | None = None
    data_dir: Path | str | None = None
    device: str = "auto"
    compile: bool | None = None

    def __post_init__(self) -> None:
        if self.schedule == "paper" and not self.milestones:
            object.__setattr__(self, "milestones", PAPER_MILESTONES)
        if self.epochs is None:
            object.__setattr__(self, "epochs", PAPER_EPOCHS if self.schedule == "paper" else 30)
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain = {name: value for name, value in given.items() if name not in ("recipe", "data_dir")}
        for name, value in checked("training", TrainConfig, plain).items():
            object.__setattr__(self, name, value)
        if self.schedule == "milestones" and not self.milestones:
            raise InputError("schedule milestones: say at which epochs, for example milestones = [100, 250]")
        if self.schedule == "one-cycle" and self.milestones:
            raise InputError("schedule one-cycle has no milestones; use schedule milestones")

    @property
    def total_epochs(self) -> int:
        """``epochs`` with its default filled in."""
        assert self.epochs is not None
        return self.epochs

    def described(self) -> dict[str, Any]:
        """The run as plain values: what is stored with a checkpoint. Places on this machine are left out."""
        values = {
            name: value
            for name, value in dataclasses.asdict(self).items()
            if name not in ("recipe", "data_dir", "device", "compile", "start", "defence")
        }
        if self.start is not None:  # the file itself, wherever it lies
            values["start"] = f"{Path(self.start).name} {self._start_sha256}"
        if self.defence is not None:
            values["defence"] = self.defence
        return {**values, "recipe": recipe_name(self.recipe), "options": recipe_options(self.recipe)}

    @cached_property
    def _start_sha256(self) -> str:
        return load_checkpoint(str(self.start)).sha256

    def fingerprint(self) -> str:
        """Digest of :meth:`described`: a run goes on only from a state of the same fingerprint."""
        text = json.dumps(self.described(), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def settings_of(texts: Iterable[str]) -> dict[str, Any]:
    """``KEY=VALUE`` as typed: numbers, true and false as TOML has them, ``1,2`` as several, else text.

    Raises:
        InputError: one without a key or a value.
    """
    settings: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not name or not value:
            raise InputError(f"-o {text!r} is not KEY=VALUE; write -o epochs=30")
        try:
            values = tomllib.loads(f"v = [{value}]")["v"]
        except tomllib.TOMLDecodeError:
            values = [value]
        settings[name] = tuple(values) if len(values) > 1 else values[0]
    return settings


def read_recipe(source: Path | str, **settings: Any) -> TrainConfig:
    """A training by a TOML file or a recipe's name, with settings that come before those of the file.

    Args:
        source: ``FILE.toml`` with fields of ``TrainConfig`` and a table ``[recipe]`` of a name and options;
            or a name of ``RECIPES``.
        settings: fields of ``TrainConfig``, or options of the recipe.
    Raises:
        InputError: missing or malformed file, unknown settings, values out of range.
    """
    values: dict[str, Any] = {"recipe": {"name": str(source)}}
    where = f"recipe {source}"
    if Path(source).suffix == ".toml":
        values, where = {"recipe": {"name": "erm"}, **_read(Path(source))}, str(source)
    recipe = values.pop("recipe")
    if not isinstance(recipe, dict) or not isinstance(recipe.get("name"), str):
        raise InputError(f'{where}: [recipe] needs a name, for example name = "coded"')
    name, options = recipe["name"], {key: value for key, value in recipe.items() if key != "name"}
    known = {field.name for field in dataclasses.fields(TrainConfig)} - {"recipe"}
    of_recipe = option_names(name)
    for key, value in settings.items():
        (options if key in of_recipe else values)[key] = value
    for key in values:
        if key not in known:
            near = did_you_mean(key, {*known, *of_recipe})
            raise InputError(
                f"{where}: unknown entry {key!r}; {near}known: {', '.join(sorted({*known, *of_recipe}))}"
            )
    for key in ("arch", "data"):
        if key not in values:
            raise InputError(f"{where}: {key} is missing; give -o {key}=NAME")
    return TrainConfig(**{**values, "recipe": build_recipe(name, options)})


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); give a TOML file like those in recipes/"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML ({error})") from error
