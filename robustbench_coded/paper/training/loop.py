"""Trains one network as a configuration says, and the same with several seeds; scores it, and writes it with
what it is and how it was made.
"""

import dataclasses
import json
import math
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import robustbench_coded
from attacks.accelerator import layout
from robustbench_coded.data.dataset import Dataset
from robustbench_coded.data.registry import load_data
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.options.device import device_named
from robustbench_coded.models.architectures.layers import seed_dropout
from robustbench_coded.models.archive import KEY
from robustbench_coded.models.loading import check_data, load_checkpoint
from robustbench_coded.models.normalisation import named
from robustbench_coded.models.prepare import multiplies_bfloat16
from robustbench_coded.paper.studies.over_seeds import load_state, save_state
from robustbench_coded.paper.training import loader
from robustbench_coded.paper.training.config import CodedRecipe, Moment, TrainConfig, milestones, one_cycle
from robustbench_coded.paper.training.fresh import build
from robustbench_coded.paper.training.loader import EpochRow, Progress
from robustbench_coded.paper.training.stages import Defended, TrainingStages, check_blocks
from robustbench_coded.runs.atomic import write_bytes

_BATCH = 500


class Score(NamedTuple):
    accuracy: float  # in [0, 1]
    loss: float  # mean cross-entropy, nats


@torch.no_grad()
def measure(network: nn.Module, data: Dataset, device: torch.device) -> Score:
    """Scores ``network`` in evaluation mode on all of ``data``, and leaves it in the mode it was in."""
    was_training = network.training
    network.eval()
    right, loss = 0, 0.0
    for start in range(0, len(data), _BATCH):
        x, y = (t.to(device) for t in data.batch(range(start, min(start + _BATCH, len(data)))))
        logits = network(x).float()
        right += int((logits.argmax(1) == y).sum())
        loss += float(cross_entropy(logits, y, reduction="sum"))
    network.train(was_training)
    return Score(right / len(data), loss / len(data))


def save_checkpoint(path: str | Path, network: nn.Module, metadata: dict[str, Any]) -> None:
    """Saves the weights of ``network`` beside ``metadata``.

    Args:
        path: a file ending in ``.safetensors``; one that is there is replaced in one step.
        network: as built by ``fresh.build``; saved from whatever device it is on.
        metadata: plain data; ``arch``, ``classes``, ``image_shape`` ([channels, height, width]) and
            ``normalisation`` (``{"mean": [...], "std": [...]}`` or a known name) are what loading reads.
    Raises:
        ValueError: weights or metadata that are NaN or infinite.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"expected finite weights, got NaN or infinite ones in {name}")
    text = json.dumps(metadata, sort_keys=True, allow_nan=False)
    write_bytes(Path(path), safetensors.torch.save(tensors, {KEY: text}))


def save_trained(
    path: Path,
    stages: TrainingStages,
    config: TrainConfig,
    data: Dataset,
    *,
    epoch: int,
    test: Score,
    defended: Score | None = None,
) -> None:
    """Writes ``stages`` after ``epoch`` epochs on ``data``, in a file that loads without options.

    ``test`` is of the network alone, as it will be loaded; ``defended`` behind the defence of its training.

    Everything in the file follows from the configuration, the data and the versions: no times, no places.
    """
    mean, std = (
        tuple(round(value, 4) for value in values.flatten().tolist())
        for values in (stages.mean, stages.deviation)
    )
    normalisation = named(mean, std)
    known = normalisation.name != "custom"
    metadata = {
        **config.described(),
        "classes": data.classes,
        "image_shape": list(data.image_shape),
        "normalisation": normalisation.name if known else {"mean": list(mean), "std": list(std)},
        "epoch": epoch,
        "fingerprint": config.fingerprint(),
        "accuracy": round(test.accuracy, 6),
        "loss": round(test.loss, 6),
        "versions": {
            "csrobust": robustbench_coded.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
    if isinstance(config.recipe, CodedRecipe):
        k = config.batch_size
        metadata["n_last"] = config.recipe.n_at(epoch - 1, config.total_epochs, k)
    if defended is not None:
        metadata["defended_accuracy"] = round(defended.accuracy, 6)
    save_checkpoint(path, stages.network, metadata)


def finished_score(path: Path, config: TrainConfig) -> Score | None:
    """The score that a checkpoint made with exactly this configuration states; None where there is none."""
    if not path.is_file():
        return None
    try:
        metadata = load_checkpoint(path).metadata
    except InputError:  # a file of another kind
        return None
    made_so = metadata.get("fingerprint") == config.fingerprint()
    return Score(metadata["accuracy"], metadata["loss"]) if made_so else None


Weights = dict[str, Tensor]


@dataclass
class RunState:
    """Everything a run needs besides its configuration; random numbers come from the epoch.

    Attributes:
        epoch: epochs done.
        weights: of the network.
        optimizer: its ``state_dict``.
        best: weights at the best validation accuracy so far; None where no images were held out.
        history: one row for each epoch done, each a tuple as it is stored.
    """

    epoch: int = 0
    weights: Weights = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    best: Weights | None = None
    history: list[tuple[Any, ...]] = field(default_factory=list)

    @property
    def rows(self) -> tuple[EpochRow, ...]:
        """The history."""
        return tuple(EpochRow(*row) for row in self.history)

    @property
    def best_epoch(self) -> int | None:
        """The last of the epochs with the best validation accuracy, from 1; None without validation images.

        The last, because of equals it is trained longest and, in coded training, with most coded inputs.
        """
        scored = [
            (row.validation_accuracy, row.epoch) for row in self.rows if row.validation_accuracy is not None
        ]
        return max(scored)[1] if scored else None


def state_path(checkpoint: Path) -> Path:
    """Where the state lies while ``checkpoint`` is in the making."""
    return checkpoint.with_name(f"{checkpoint.stem}.state.pt")


SAME = 5e-3  # normalisations are rounded where they are stored


def weights_to_start_from(
    config: TrainConfig, data: Dataset, mean: tuple[float, ...], deviation: tuple[float, ...]
) -> Weights:
    """The weights of ``config.start``, for a network that is given (pixel - mean) / deviation.

    Args:
        config: names the checkpoint and the architecture.
        data: the training images.
        mean, deviation: of each channel, in units of pixels in [0, 1].
    Raises:
        InputError: a checkpoint of another architecture, other classes or another normalisation.
    """
    checkpoint = load_checkpoint(str(config.start))
    if checkpoint.arch != config.arch:
        raise InputError(
            f"start {config.start}: it is a {checkpoint.arch}, the training has arch {config.arch}"
        )
    check_data(checkpoint, data.image_shape, data.classes, config.data)
    if (known := checkpoint.normalisation) is not None:
        apart = max(abs(a - b) for a, b in zip((*known.mean, *known.std), (*mean, *deviation), strict=True))
        if apart > SAME:
            raise InputError(
                f"start {config.start}: its normalisation is {known}, the training images have mean "
                f"{mean} and deviation {deviation}; start from a checkpoint that was trained on them"
            )
    return checkpoint.network.state_dict()


_ENOUGH = 50_000  # images; more do not change the fourth digit
_CHUNK = 1000


def channel_statistics(data: Dataset) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the pixels of each channel in [0, 1], to four digits.

    On CIFAR-10 these are the figures that its checkpoints are usually normalised with.
    """
    count = min(len(data), _ENOUGH)
    total = np.zeros(data.image_shape[0])
    squares = np.zeros_like(total)
    for start in range(0, count, _CHUNK):
        x, _ = data.batch(range(start, min(start + _CHUNK, count)))
        pixels = x.double()
        total += pixels.sum((0, 2, 3)).numpy()
        squares += pixels.square().sum((0, 2, 3)).numpy()
    pixels_seen = count * data.images.shape[1] * data.images.shape[2]
    mean = total / pixels_seen
    deviation = np.sqrt(np.maximum(squares / pixels_seen - mean**2, 0))
    # A channel that never changes still needs a deviation to divide by.
    deviation = np.where(deviation < 1e-4, 1.0, deviation)
    return tuple(np.round(mean, 4).tolist()), tuple(np.round(deviation, 4).tolist())


@dataclass(frozen=True)
class TrainResult:
    """A finished run.

    Attributes:
        checkpoint: the file with the best weights by validation accuracy; without validation, the last ones.
        test: accuracy and loss of ``checkpoint`` on the test images.
        history: one row for each epoch.
        defended: as ``test``, behind the defence of the training; None without one.
    """

    checkpoint: Path
    test: Score
    history: tuple[EpochRow, ...]
    defended: Score | None = None


def train(config: TrainConfig, out: Path, *, bar: Progress | None = None) -> TrainResult:
    """Trains a network and writes it to ``out``, with what it is and how it was made.

    After every epoch the state of the run is written beside ``out``. The same call goes on from there after a
    kill and ends in the same weights (to the byte on one CPU machine with the same number of threads).

    Args:
        config: everything that decides the result.
        out: a ``.safetensors`` file. With validation images it holds the best epoch, and
            ``last/NAME.safetensors`` beside it the last one, where no pattern of names finds both.
        bar: shows every step and epoch; None shows nothing.
    Raises:
        InputError: unknown names, data that do not fit, the state of another run.
        Diverged: the loss is not finite.
    """
    if out.suffix != ".safetensors":
        raise InputError(f"{out}: give a file name that ends in .safetensors")
    return _Run(config, out, device_named(config.device)).finish(bar or Progress("", quiet=True))


class Diverged(InputError):
    """The loss is not finite any more."""


class _Run:
    """What the epochs of one run share."""

    def __init__(self, config: TrainConfig, out: Path, device: torch.device):
        self.config, self.out, self.device = config, out, device
        data = load_data(config.data, data_dir=config.data_dir, split="train")
        self.test = load_data(config.test_data or config.data, data_dir=config.data_dir, split="test")
        if self.test.labels.max() >= data.classes or self.test.image_shape[0] != data.image_shape[0]:
            raise InputError(f"{self.test.name}: its classes or channels are not those of {data.name}")
        self.data, self.validation = loader.train_validation(data, config.validation, config.seed)
        if len(self.data) < 4:
            raise InputError(f"{config.data}: {len(self.data)} training images; at least 4 are needed")
        self.steps = loader.steps_per_epoch(len(self.data), config.batch_size)

        self.stages = self._fresh_stages()
        self.trained = self.stages
        if config.defence is not None:
            self.trained = Defended(self.stages, config.defence, config.batch_size)
            self.trained.require_gradients(data.classes, data.image_shape)
        check_blocks(self.trained, getattr(config.recipe, "blocks", ()), "blocks")
        self.optimizer = torch.optim.SGD(
            self.stages.parameters(),
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )

    def _fresh_stages(self) -> TrainingStages:
        config = self.config
        network = build(
            config.arch,
            self.data.classes,
            self.data.image_shape[0],
            dropout=config.dropout,
            generator=loader.stream(config.seed, "initialisation"),
        )
        mean, deviation = channel_statistics(self.data)
        if config.start is not None:
            network.load_state_dict(weights_to_start_from(config, self.data, mean, deviation))
        stages = TrainingStages(network, mean, deviation, _autocast(config.precision, self.device))
        stages.to(self.device)
        stages.to(memory_format=layout(self.device))
        wanted = self.device.type == "cuda" and config.defence is None  # defences change layers as they run
        if config.compile or (config.compile is None and wanted):
            network.compile()
        return stages

    def finish(self, bar: Progress) -> TrainResult:
        """Does the epochs that are still to do, and writes the checkpoints."""
        path = state_path(self.out)
        before = load_state(path, self.config.fingerprint())
        state = RunState(**(before or {}))
        if before is not None:
            self.stages.network.load_state_dict(state.weights)
            self.optimizer.load_state_dict(state.optimizer)
        epochs = self.config.total_epochs
        bar.start(epochs, self.steps)
        for epoch in range(state.epoch, epochs):
            row = self._epoch(epoch, bar)
            self._record(state, row)
            save_state(path, self.config.fingerprint(), vars(state))
            bar.done(row.epoch, row.figures)
        result = self._write(state)
        path.unlink(missing_ok=True)
        return result

    def _epoch(self, epoch: int, bar: Progress) -> EpochRow:
        config, begin = self.config, time.monotonic()
        moment = Moment(epoch, config.total_epochs, loader.stream(config.seed, "recipe", epoch))
        seed_dropout(self.stages, loader.stream(config.seed, "dropout", epoch))
        self.trained.generator = loader.stream(config.seed, "defence", epoch)
        usual = "shift-flip" if self.data.image_shape[0] == 3 else "none"
        batches = loader.epoch_batches(
            self.data,
            batch_size=config.batch_size,
            augmentation=usual if config.augmentation == "auto" else config.augmentation,
            seed=config.seed,
            epoch=epoch,
        )
        total = torch.zeros((), device=self.device)
        self.stages.train()
        for step, (x, y) in enumerate(batches):
            rate = self._set_learning_rate(epoch, step)
            self.optimizer.zero_grad(set_to_none=True)
            loss = config.recipe(self.trained, x.to(self.device), y.to(self.device), moment)
            loss.backward()
            self.optimizer.step()
            total += loss.detach()
            bar.step(epoch, step)
        mean = float(total) / self.steps
        if not math.isfinite(mean):
            raise Diverged(f"epoch {epoch + 1}: the loss is {mean}; lower the learning rate")
        score = self._score(self.validation) if self.validation else None
        return EpochRow(
            epoch=epoch + 1,
            learning_rate=rate,
            loss=mean,
            validation_accuracy=score.accuracy if score else None,
            validation_loss=score.loss if score else None,
            seconds=time.monotonic() - begin,
        )

    def _score(self, data: Dataset) -> Score:
        """Of what is trained: behind its defence, with the same draws after every epoch."""
        self.trained.generator = loader.stream(self.config.seed, "defence", self.config.total_epochs)
        return measure(self.trained, data, self.device)

    def _set_learning_rate(self, epoch: int, step: int) -> float:
        config = self.config
        if config.schedule == "one-cycle":
            # The middle of the step, so that neither the first nor the last one is wasted on a rate of 0.
            progress = (epoch * self.steps + step + 0.5) / (config.total_epochs * self.steps)
            rate = one_cycle(progress, config.learning_rate)
        else:
            rate = milestones(epoch, config.milestones, config.learning_rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _record(self, state: RunState, row: EpochRow) -> None:
        """Brings the state up to date with the epoch just done."""
        state.epoch = row.epoch
        state.weights = _copied(self.stages.network)
        state.optimizer = self.optimizer.state_dict()
        state.history.append(tuple(row))
        if state.best_epoch == row.epoch:
            state.best = state.weights

    def _write(self, state: RunState) -> TrainResult:
        """Scores and writes the last weights and, where images were held out, the best ones."""
        history = state.rows
        if state.best is None or state.best_epoch is None:
            scores = self._save(self.out, state.weights, state.epoch)
        else:
            last = self.out.parent / "last" / self.out.name
            last.parent.mkdir(exist_ok=True)
            self._save(last, state.weights, state.epoch)
            scores = self._save(self.out, state.best, state.best_epoch)
        return TrainResult(self.out, scores[0], history, scores[1])

    def _save(self, path: Path, weights: Weights, epoch: int) -> tuple[Score, Score | None]:
        """The scores on the test images of the network alone and behind its defence."""
        self.stages.network.load_state_dict(weights)
        self.stages.autocast = torch.float32  # scored as it will be loaded
        test = measure(self.stages, self.test, self.device)
        behind = None if self.config.defence is None else self._score(self.test)
        save_trained(path, self.stages, self.config, self.data, epoch=epoch, test=test, defended=behind)
        return test, behind


def _copied(network: nn.Module) -> Weights:
    return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}


def _autocast(precision: str, device: torch.device) -> torch.dtype:
    if precision == "auto":
        fast = device.type != "cpu" and multiplies_bfloat16(device)
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


class SeededRun(NamedTuple):
    """One checkpoint and its score on the test images."""

    checkpoint: Path
    seed: int
    test: Score


def train_seeds(config: TrainConfig, out: Path, seeds: int, *, quiet: bool = True) -> list[SeededRun]:
    """Trains with the seeds ``config.seed``, ``config.seed`` + 1, ..., ``seeds`` of them.

    The runs differ in initialisation, train-validation split and order. A checkpoint that is there and was
    made with these settings is not made again, so a killed series goes on.

    Args:
        config: the run with the first seed.
        out: the file of a single run; several write ``FILE-seed0.safetensors`` and so on.
        seeds: how many, at least 1.
        quiet: whether nothing is shown.
    Raises:
        InputError: as `train`, or a checkpoint made otherwise is there: hours of work are not to be lost to
            a name that was used twice.
    """
    planned = []
    for seed in range(config.seed, config.seed + seeds):
        path = out if seeds == 1 else out.with_name(f"{out.stem}-seed{seed}{out.suffix}")
        each = dataclasses.replace(config, seed=seed)
        score = finished_score(path, each)
        if path.exists() and score is None:  # said of all names first, and not after hours of training
            raise InputError(
                f"--out: {path} is there already and was made with other settings; "
                "give another name, or remove the file"
            )
        planned.append((each, path, score))
    return [
        SeededRun(path, each.seed, score or train(each, path, bar=Progress(path.stem, quiet=quiet)).test)
        for each, path, score in planned
    ]
