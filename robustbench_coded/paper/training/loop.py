"""Trains one network as a configuration says, and the same with several seeds."""

import dataclasses
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from attacks.accelerator import layout
from robustbench_coded.data.dataset import Dataset
from robustbench_coded.data.registry import load_data
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.options.device import device_named
from robustbench_coded.models.architectures.layers import seed_dropout
from robustbench_coded.models.prepare import multiplies_bfloat16
from robustbench_coded.paper.studies.over_seeds import load_state, save_state
from robustbench_coded.paper.training import loader, save
from robustbench_coded.paper.training.config import TrainConfig, milestones, one_cycle
from robustbench_coded.paper.training.fresh import build
from robustbench_coded.paper.training.listener import EpochRow, Progress
from robustbench_coded.paper.training.recipes import Moment
from robustbench_coded.paper.training.stages import Defended, TrainingStages, check_blocks

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
    test: save.Score
    history: tuple[EpochRow, ...]
    defended: save.Score | None = None


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
            network.load_state_dict(save.weights_to_start_from(config, self.data, mean, deviation))
        stages = TrainingStages(network, mean, deviation, _autocast(config.precision, self.device))
        stages.to(self.device)
        stages.to(memory_format=layout(self.device))
        wanted = self.device.type == "cuda" and config.defence is None  # defences change layers as they run
        if config.compile or (config.compile is None and wanted):
            network.compile()
        return stages

    def finish(self, bar: Progress) -> TrainResult:
        """Does the epochs that are still to do, and writes the checkpoints."""
        path = save.state_path(self.out)
        before = load_state(path, self.config.fingerprint())
        state = save.RunState(**(before or {}))
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

    def _score(self, data: Dataset) -> save.Score:
        """Of what is trained: behind its defence, with the same draws after every epoch."""
        self.trained.generator = loader.stream(self.config.seed, "defence", self.config.total_epochs)
        return save.measure(self.trained, data, self.device)

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

    def _record(self, state: save.RunState, row: EpochRow) -> None:
        """Brings the state up to date with the epoch just done."""
        state.epoch = row.epoch
        state.weights = _copied(self.stages.network)
        state.optimizer = self.optimizer.state_dict()
        state.history.append(tuple(row))
        if state.best_epoch == row.epoch:
            state.best = state.weights

    def _write(self, state: save.RunState) -> TrainResult:
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

    def _save(self, path: Path, weights: save.Weights, epoch: int) -> tuple[save.Score, save.Score | None]:
        """The scores on the test images of the network alone and behind its defence."""
        self.stages.network.load_state_dict(weights)
        self.stages.autocast = torch.float32  # scored as it will be loaded
        test = save.measure(self.stages, self.test, self.device)
        behind = None if self.config.defence is None else self._score(self.test)
        save.save_trained(path, self.stages, self.config, self.data, epoch=epoch, test=test, defended=behind)
        return test, behind


def _copied(network: nn.Module) -> save.Weights:
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
    test: save.Score


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
        score = save.finished_score(path, each)
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
