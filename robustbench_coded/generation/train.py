"""Trains a generator against its critic; a stopped training goes on where it last measured."""

from __future__ import annotations

import copy
import hashlib
import io
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustbench_coded.coding.codec import CodedSmoothing
from robustbench_coded.data.dataset import Dataset
from robustbench_coded.errors import InputError
from robustbench_coded.generation.config import GanConfig
from robustbench_coded.generation.course import COURSE, add_row
from robustbench_coded.generation.losses import critic_loss, generator_loss
from robustbench_coded.generation.networks import Critic, Generator, check_side
from robustbench_coded.generation.records import Point, read_points, write_points
from robustbench_coded.runs.atomic import write_bytes

STATE, POINTS, SAMPLES = "gan.state.pt", "history.csv", "samples.npy"
SHOWN = 32  # images that a report shows
Measure = Callable[[Tensor], tuple[float, float]]  # images -> Frechet distance, inception score


class Training:
    """One generator and its critic, in memory.

    Every random number is named by seed, purpose and iteration: a training that goes on is the same training.

    Raises:
        InputError: images of a size that no network here makes.
    """

    def __init__(self, config: GanConfig, data: Dataset, device: torch.device):
        channels, side, width = data.image_shape
        if side != width:
            raise InputError(f"{data.name}: images are {side} x {width}; generators here make square ones")
        check_side(side)
        self.config, self._device = config, device
        self._images = data.batch(range(len(data)))[0]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_number(config.seed, "weights", 0))
            self.generator = Generator(side, channels).to(device)
            self.critic = Critic(side, channels).to(device)
        self.mean = copy.deepcopy(self.generator).requires_grad_(False)
        options: dict[str, Any] = {"lr": config.learning_rate, "betas": config.betas}
        self._optimisers = [
            torch.optim.Adam(m.parameters(), **options) for m in (self.generator, self.critic)
        ]
        k = config.batch_size
        self._coded = None if config.n is None else CodedSmoothing(k, config.n)
        self.iteration = 0
        self.gap = 0.0
        self.seconds = {"critic": 0.0, "generator": 0.0}  # of processor time

    def step(self) -> None:
        """``critic_steps`` of the critic and one of the generator."""
        config, start = self.config, time.process_time()
        self.generator.train()
        for i in range(config.critic_steps):
            draws = self._stream("critic", self.iteration * config.critic_steps + i)
            rows = torch.randint(len(self._images), (config.batch_size,), generator=draws)
            mix = torch.rand(config.batch_size, generator=draws).to(self._device)
            with torch.no_grad():
                fake = self.generator(self._latents(draws, config.batch_size))
            loss, gap = critic_loss(
                self.critic, self._images[rows].to(self._device), fake, mix, config.penalty
            )
            self._update(1, loss)
            self.gap = float(gap)
        middle = time.process_time()
        z = self._latents(self._stream("generator", self.iteration), config.batch_size)
        self.critic.requires_grad_(False)
        self._update(0, generator_loss(self.generator, self.critic, z, self._coded, config.mu))
        self.critic.requires_grad_(True)
        self.iteration += 1
        self._average(min(config.ema, self.iteration / (self.iteration + 10)))
        self.seconds["critic"] += middle - start
        self.seconds["generator"] += time.process_time() - middle

    @torch.no_grad()
    def sample(self, count: int) -> Tensor:
        """Images [count, C, S, S] of the averaged generator; at every iteration of the same latents."""
        self.mean.eval()
        draws = self._stream("samples", 0)
        return torch.cat(
            [self.mean(self._latents(draws, min(500, count - at))) for at in range(0, count, 500)]
        ).cpu()

    def state(self) -> dict[str, Any]:
        """All that a training needs to go on."""
        return {
            "iteration": self.iteration,
            "seconds": self.seconds,
            "networks": [network.state_dict() for network in self._networks],
            "optimisers": [optimiser.state_dict() for optimiser in self._optimisers],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from ``state``."""
        self.iteration, self.seconds = state["iteration"], dict(state["seconds"])
        for network, weights in zip(self._networks, state["networks"], strict=True):
            network.load_state_dict(weights)
        for optimiser, content in zip(self._optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(content)

    @property
    def _networks(self) -> tuple[nn.Module, ...]:
        return self.generator, self.critic, self.mean

    def _update(self, which: int, loss: Tensor) -> None:
        self._optimisers[which].zero_grad(set_to_none=True)
        loss.backward()
        self._optimisers[which].step()

    @torch.no_grad()
    def _average(self, decay: float) -> None:
        for kept, now in zip(self.mean.parameters(), self.generator.parameters(), strict=True):
            kept.lerp_(now, 1 - decay)
        for copied, source in zip(self.mean.buffers(), self.generator.buffers(), strict=True):
            copied.copy_(source)

    def _latents(self, draws: torch.Generator, count: int) -> Tensor:
        return torch.randn(count, self.generator.latent, generator=draws).to(self._device)

    def _stream(self, purpose: str, index: int) -> torch.Generator:
        return torch.Generator().manual_seed(_number(self.config.seed, purpose, index))


def train(
    config: GanConfig,
    data: Dataset,
    measure: Measure,
    folder: Path,
    *,
    device: torch.device,
    said: Callable[[int, Point | None], None] = lambda iteration, point: None,
) -> list[Point]:
    """Trains to ``config.iterations`` and returns all measurements.

    Args:
        measure: of generated images; asked every ``config.every`` iterations and at the end.
        folder: holds history.csv, the state, the images shown last, and samples.png with those of every
            measurement.
        said: is told every iteration, with the measurement where there is one.

    Raises:
        InputError: the folder holds another training, or its state is damaged.
    """
    training = Training(config, data, device)
    points = read_points(folder / POINTS)
    state = _load(folder / STATE, config)
    if state is not None:
        training.restore(state)
    points = [point for point in points if point.iteration <= training.iteration]
    while training.iteration < config.iterations:
        training.step()
        point = None
        if training.iteration % config.every == 0 or training.iteration == config.iterations:
            images = training.sample(config.samples)
            distance, score = measure(images)
            seconds = training.seconds
            point = Point(
                config.variant, config.n, config.seed, training.iteration, distance, score, training.gap,
                seconds["generator"] / training.iteration, seconds["critic"] / training.iteration,
            )  # fmt: skip
            points.append(point)
            add_row(folder / COURSE, images, len(points) - 1)
            _store_array(folder / SAMPLES, (255 * images[:SHOWN]).round().to(torch.uint8).numpy())
            _store(folder / STATE, {"fingerprint": config.fingerprint(), **training.state()})
            write_points(folder / POINTS, points)
        said(training.iteration, point)
    return points


def _store(path: Path, content: Any) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getvalue())


def _store_array(path: Path, content: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, content, allow_pickle=False)
    write_bytes(path, buffer.getvalue())


def _load(path: Path, config: GanConfig) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        fingerprint = state["fingerprint"]
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError, OSError) as error:
        raise InputError(f"{path}: damaged state of a training; remove its folder to start again") from error
    if fingerprint != config.fingerprint():
        raise InputError(f"{path}: a training with other options; give another --out, or remove its folder")
    return state


def _number(seed: int, purpose: str, index: int) -> int:
    digest = hashlib.blake2b(f"{seed}/{purpose}/{index}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")
