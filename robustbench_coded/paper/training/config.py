"""Everything that decides a training run, from Python or from a TOML file: losses by name (ERM, mixup,
manifold mixup, PGD-AT, TRADES, coded smoothing), settings, learning rates.
"""

import dataclasses
import hashlib
import json
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Protocol, get_args, get_origin, get_type_hints

import msgspec
import torch
from msgspec import Meta
from scipy.special import betaincinv
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from robustbench_coded.coding.codec import Codec
from robustbench_coded.errors import InputError, did_you_mean
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.paper.training.stages import TrainingStages

Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(ge=1e-3)]
Size = Annotated[float, Meta(ge=0.05, le=100)]
Steps = Annotated[int, Meta(ge=1)]
Blocks = tuple[Annotated[int, Meta(ge=0)], ...]


class Moment(NamedTuple):
    """Where in the run a step lies, and its randomness."""

    epoch: int  # from 0
    epochs: int
    generator: torch.Generator  # on the CPU


class Recipe(Protocol):
    """A training loss. Recipes are frozen dataclasses: their fields are the recipe's options."""

    def __call__(self, stages: TrainingStages, x: Tensor, y: Tensor, moment: Moment) -> Tensor:
        """The loss of a batch.

        Args:
            stages: the network, in training mode.
            x: ``[k, C, H, W]`` in [0, 1].
            y: ``[k]`` int64.
            moment: epoch and randomness.
        Returns:
            The mean over the batch, a scalar.
        """


@dataclass(frozen=True)
class Erm:
    """arXiv 2510.00253, equation 1."""

    def __call__(self, stages: TrainingStages, x: Tensor, y: Tensor, moment: Moment) -> Tensor:
        return cross_entropy(stages(x), y)


class Mixing(NamedTuple):
    """Each example i becomes ``share`` times itself and 1 - ``share`` times example ``partner[i]``."""

    share: float
    partner: Tensor  # a permutation of the batch

    @staticmethod
    def draw(k: int, alpha: float, generator: torch.Generator) -> "Mixing":
        """One share ~ Beta(alpha, alpha) for the batch and uniformly permuted partners (arXiv 1710.09412)."""
        # The inverse distribution function, because torch's Beta takes no generator.
        uniform = torch.rand((), generator=generator, dtype=torch.float64).item()
        return Mixing(float(betaincinv(alpha, alpha, uniform)), torch.randperm(k, generator=generator))

    def inputs(self, x: Tensor) -> Tensor:
        """``[k, ...]`` pixels or activations, mixed."""
        return self.share * x + (1 - self.share) * x[self.partner.to(x.device)]

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy to the mixed one-hot labels."""
        other = y[self.partner.to(y.device)]
        return self.share * cross_entropy(logits, y) + (1 - self.share) * cross_entropy(logits, other)


@dataclass(frozen=True)
class Mixup:
    """The share of the first input is drawn from Beta(alpha, alpha) once a batch."""

    alpha: Positive = 1.0

    def __call__(self, stages: TrainingStages, x: Tensor, y: Tensor, moment: Moment) -> Tensor:
        mixing = Mixing.draw(len(x), self.alpha, moment.generator)
        return mixing.loss(stages(mixing.inputs(x)), y)


@dataclass(frozen=True)
class ManifoldMixup:
    """One share ~ Beta(alpha, alpha) and one of the ``before`` blocks for each batch.

    ``before`` (0, 2, 3) mixes the input, or what the first or the second group of residual blocks gives: the
    layers of arXiv 1806.05236 for PreActResNet-18. Blocks that a shorter network lacks are left out.
    """

    alpha: Positive = 2.0
    before: Blocks = (0, 2, 3)

    def __call__(self, stages: TrainingStages, x: Tensor, y: Tensor, moment: Moment) -> Tensor:
        mixing = Mixing.draw(len(x), self.alpha, moment.generator)
        choices = [block for block in self.before if block < stages.count]
        block = choices[int(torch.randint(len(choices), (), generator=moment.generator))]
        hidden = stages.run(x, 0, block)
        return mixing.loss(stages.run(mixing.inputs(hidden), block, stages.count), y)


def signed_steps(
    start: Tensor,
    ball: tuple[Tensor, Tensor],
    loss: Callable[[Tensor], Tensor],
    *,
    steps: int,
    step_size: float,
) -> Tensor:
    """The last iterate.

    Args:
        start: [k, C, H, W].
        ball: the lowest and the highest pixels, each as ``start``.
        loss: a scalar that grows.
        step_size: in pixel units.
    """
    x = start
    for _ in range(steps):
        x.requires_grad_()
        (grad,) = torch.autograd.grad(loss(x), x)
        x = (x.detach() + step_size * grad.sign()).clamp(*ball)
    return x.detach()


def ball_around(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The lowest and the highest pixels within eps of ``x`` and in [0, 1]."""
    return (x - eps).clamp(min=0), (x + eps).clamp(max=1)


@dataclass(frozen=True)
class PgdAt:
    """L-infinity PGD from a uniform start inside the ball.

    Attributes:
        eps: radius in pixel units [0, 1].
        steps: gradient steps for every batch.
        step_size: in pixel units.
    """

    eps: Share = 8 / 255
    steps: Steps = 7
    step_size: Share = 2 / 255

    def __call__(self, stages: TrainingStages, x: Tensor, y: Tensor, moment: Moment) -> Tensor:
        return cross_entropy(stages(self.found(stages, x, y, moment.generator)), y)

    def found(self, stages: TrainingStages, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """What `searched` finds, in evaluation mode: batch-norm's running statistics describe the inputs
        trained on, so the search leaves them be.
        """
        stages.eval()
        x_adv = self.searched(stages, x, y, generator)
        stages.train()
        return x_adv

    def searched(self, stages: TrainingStages, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """The last iterate ``[k, C, H, W]``: within eps of ``x`` and in [0, 1]."""
        lower, upper = ball_around(x, self.eps)
        noise = torch.rand(x.shape, generator=generator).to(x.device)
        return signed_steps(
            lower + noise * (upper - lower),
            (lower, upper),
            lambda inputs: cross_entropy(stages(inputs), y, reduction="sum"),
            steps=self.steps,
            step_size=self.step_size,
        )


# Of the paper: where the gradient of the divergence is 0, at x itself, no step has a direction.
START = 0.001


@dataclass(frozen=True)
class Trades(PgdAt):
    """Within an l-infinity ball, by the divergence between the answers to x and to its neighbour.

    Attributes:
        beta: weight of the divergence (the paper: 1 / lambda).
    """

    steps: Steps = 10
    beta: Annotated[float, Meta(ge=0, le=1e6)] = 6.0

    def __call__(self, stages: TrainingStages, x: Tensor, y: Tensor, moment: Moment) -> Tensor:
        x_adv = self.found(stages, x, y, moment.generator)
        logits = stages(x)
        return cross_entropy(logits, y) + self.beta * divergence(logits, stages(x_adv)) / len(x)

    def searched(self, stages: TrainingStages, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """The last iterate ``[k, C, H, W]``: within eps of ``x`` and in [0, 1]."""
        with torch.no_grad():
            clean = stages(x)
        return signed_steps(
            x + START * torch.randn(x.shape, generator=generator).to(x.device),
            ball_around(x, self.eps),
            lambda inputs: divergence(clean, stages(inputs)),
            steps=self.steps,
            step_size=self.step_size,
        )


def divergence(clean: Tensor, moved: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the clean answers from the moved ones, logits [k, classes]; the sum."""
    return kl_div(log_softmax(moved, 1), log_softmax(clean, 1), reduction="sum", log_target=True)


@dataclass(frozen=True)
class CodedRecipe:
    """(1 - mu) L_main + mu L_coded, equation 7.

    Attributes:
        mu: weight of the coded path, in [0, 1].
        n_start: coded inputs in the first epoch, in units of the batch size K.
        n_end: coded inputs in the last epoch (gamma of appendix E.1); equal to ``n_start`` for a fixed N.
        blocks: the target blocks; empty for all of them. Neighbouring blocks are encoded and decoded once.
        order: order of the splines: 1, 3 or 5.
        nodes: ``chebyshev`` or ``uniform`` points.
    """

    mu: Share = 0.5
    n_start: Size = 1.0
    n_end: Size = 1.5
    blocks: Blocks = ()
    order: Literal[1, 3, 5] = 3
    nodes: Literal["chebyshev", "uniform"] = "chebyshev"

    def n_at(self, epoch: int, epochs: int, k: int) -> int:
        """Coded inputs for a batch of ``k``: linear from n_start k to n_end k, rounded half up."""
        progress = epoch / (epochs - 1) if epochs > 1 else 1.0
        return int((self.n_start + (self.n_end - self.n_start) * progress) * k + 0.5)

    def __call__(self, stages: TrainingStages, x: Tensor, y: Tensor, moment: Moment) -> Tensor:
        runs = target_runs(self.blocks, stages.count)
        # The paths part at the first target block; what lies before it is computed once.
        shared = stages.run(x, 0, runs[0][0])
        main = cross_entropy(stages.run(shared, runs[0][0], stages.count), y)
        codec = Codec(
            len(x), self.n_at(moment.epoch, moment.epochs, len(x)), nodes=self.nodes, order=self.order
        )
        coded = cross_entropy(coded_path(stages, shared, runs, codec), y)
        return (1 - self.mu) * main + self.mu * coded


def target_runs(blocks: tuple[int, ...], count: int) -> list[tuple[int, int]]:
    """Neighbouring target blocks joined to [start, stop) ranges; no ``blocks`` means all ``count``."""
    runs: list[tuple[int, int]] = []
    for block in sorted(set(blocks)) or range(count):
        if runs and runs[-1][1] == block:
            runs[-1] = (runs[-1][0], block + 1)
        else:
            runs.append((block, block + 1))
    return runs


def coded_path(stages: TrainingStages, z: Tensor, runs: list[tuple[int, int]], codec: Codec) -> Tensor:
    """Logits ``[k, classes]`` by way of coded activations through each target run.

    Args:
        stages: the network.
        z: ``[k, ...]``, the activations before the first target run.
        runs: the target blocks, from :func:`target_runs`.
        codec: encodes before a run and decodes behind it; blocks between two runs see decoded values.
    """
    ends = [start for start, _ in runs[1:]] + [stages.count]
    for (start, stop), end in zip(runs, ends):
        z = codec.smoothed(z[None], partial(stages.run, start=start, stop=stop))[0]
        z = stages.run(z, stop, end)
    return z


RECIPES: dict[str, type] = {
    "erm": Erm,
    "mixup": Mixup,
    "manifold-mixup": ManifoldMixup,
    "coded": CodedRecipe,
    "pgd-at": PgdAt,
    "trades": Trades,
}


def checked(what: str, kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a dataclass's fields in the types, and within the ranges, of their annotations.

    Args:
        what: whose they are, for messages.
    Raises:
        InputError: a field that there is not, or a value of another type or out of range.
    """
    hints = get_type_hints(kind, include_extras=True)
    settings = {}
    for name, value in values.items():
        if name not in hints:
            raise InputError(f"{what} has no option {name!r}; it has {', '.join(hints) or 'none'}")
        several = get_origin(hints[name]) is tuple and isinstance(value, int)  # one of them, as it is typed
        try:
            settings[name] = msgspec.convert((value,) if several else value, hints[name])
        except msgspec.ValidationError as error:
            choices = get_args(hints[name]) if get_origin(hints[name]) is Literal else ()
            more = f"; give {', '.join(map(str, choices))}" if choices else ""
            raise InputError(f"{what}: {name} = {value!r}: {str(error).lower()}{more}") from error
    return settings


def option_names(name: str) -> set[str]:
    """The names of a recipe's options.

    Raises:
        InputError: there is no such recipe.
    """
    if name not in RECIPES:
        known = f"{did_you_mean(name, RECIPES)}known: {', '.join(RECIPES)}"
        raise InputError(f"unknown recipe {name!r}; {known}")
    return {field.name for field in dataclasses.fields(RECIPES[name])}


def build_recipe(name: str, options: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe with its paper's settings, or with those given in ``options``.

    Raises:
        InputError: unknown name, unknown option, or a value out of range.
    """
    option_names(name)
    return RECIPES[name](**checked(f"recipe {name}", RECIPES[name], options or {}))


def recipe_options(recipe: Recipe) -> dict[str, Any]:
    """The options of a recipe as plain values, for metadata."""
    return dataclasses.asdict(recipe)  # type: ignore[call-overload]


def recipe_name(recipe: Recipe) -> str:
    """The name that ``build_recipe`` knows it by."""
    return next(name for name, kind in RECIPES.items() if type(recipe) is kind)


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
