"""WGAN-GP with and without coded-smoothing in the generator (arXiv 2510.00253, appendix E.2): networks,
losses, training.
"""

import copy
import hashlib
import io
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from msgspec import Meta
from torch import Tensor, nn

from robustbench_coded.coding.codec import Codec
from robustbench_coded.coding.sizes import FEWEST
from robustbench_coded.data.dataset import Dataset
from robustbench_coded.errors import InputError
from robustbench_coded.paper.studies.over_seeds import Records, load_state, save_state
from robustbench_coded.paper.training.config import Share, Steps, checked
from robustbench_coded.paper.training.loader import Progress
from robustbench_coded.runs.atomic import write_bytes

# The paper trains for 100,000 iterations on a GPU.
PAPERS_ITERATIONS = 100_000
PLAIN = "plain"


@dataclass(frozen=True)
class GanConfig:
    """One generator and its critic. The defaults are the paper's (appendix E.2) but for the iterations.

    Attributes:
        data: training images as text, as for ``csrobust train``.
        n: coded inputs of the generator's coded path; None trains without one.
        mu: weight of the coded path, in [0, 1].
        iterations: generator steps.
        batch_size: K.
        critic_steps: critic steps for each generator step.
        penalty: weight of the gradient penalty.
        learning_rate, betas: of Adam.
        ema: decay of the running mean of the generator's weights; less in the first steps.
        every: iterations between measurements.
        samples: generated images of a measurement.
        seed: names every random number.
    """

    data: str
    n: Annotated[int, Meta(ge=FEWEST)] | None = None
    mu: Share = 0.5
    iterations: Steps = 1000
    batch_size: Annotated[int, Meta(ge=FEWEST)] = 64
    critic_steps: Steps = 5
    penalty: float = 10.0
    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.0, 0.9)
    ema: float = 0.999
    every: Steps = 100
    samples: Annotated[int, Meta(ge=100)] = 2000
    seed: Annotated[int, Meta(ge=0)] = 0

    def __post_init__(self) -> None:
        checked("gan", GanConfig, asdict(self))

    @property
    def variant(self) -> str:
        """``plain`` or ``coded N=96``."""
        return PLAIN if self.n is None else f"coded N={self.n}"

    @property
    def name(self) -> str:
        """Of its folder: ``plain-seed0``."""
        return f"{self.variant.lower().replace(' ', '-').replace('=', '')}-seed{self.seed}"

    def fingerprint(self) -> str:
        """Hash of all that decides its course but the number of iterations: a longer run goes on."""
        data = {name: value for name, value in asdict(self).items() if name != "iterations"}
        return hashlib.blake2b(json.dumps(data, sort_keys=True).encode(), digest_size=8).hexdigest()


def gan_config(**settings: Any) -> GanConfig:
    """A training by its settings, on digits unless they say otherwise.

    Raises:
        InputError: a setting that there is not, of another type, or out of range.
    """
    return GanConfig(**{"data": "digits", **checked("gan", GanConfig, settings)})


class GeneratorPoint(NamedTuple):
    """A generator at one iteration.

    Attributes:
        distance: Frechet distance to the training images. score: inception score.
        gap: the critic's estimate of the Wasserstein distance.
        generator_seconds, critic_seconds: processor time of the iterations so far, a mean.
    """

    variant: str
    n: int | None
    seed: int
    iteration: int
    distance: float
    score: float
    gap: float
    generator_seconds: float
    critic_seconds: float


# Generators and critics: small ones for 8 x 8 images, DCGAN's sizes (arXiv 1511.06434) from 32 x 32 up.
#
# A generator has batch-norms. A critic has none: its penalty is about single images (arXiv 1704.00028).


LATENT = {8: 32, 16: 64, 32: 128, 64: 128}
_WIDTH = {8: 32, 16: 64, 32: 64, 64: 64}


class Generator(nn.Module):
    """Latents ``[B, latent]`` to images ``[B, C, S, S]`` in [0, 1].

    Args:
        side: S, 8, 16, 32 or 64. channels: C.
    """

    def __init__(self, side: int, channels: int):
        super().__init__()
        check_side(side)
        self.latent, self.start = LATENT[side], 4
        doublings = (side // 4).bit_length() - 1
        width = _WIDTH[side] << (doublings - 1)
        self.first = nn.Linear(self.latent, width * 16, bias=False)
        layers: list[nn.Module] = [nn.BatchNorm2d(width), nn.ReLU()]
        for _ in range(doublings - 1):
            layers += [nn.ConvTranspose2d(width, width // 2, 4, 2, 1, bias=False), nn.BatchNorm2d(width // 2)]
            layers.append(nn.ReLU())
            width //= 2
        layers += [nn.ConvTranspose2d(width, channels, 4, 2, 1), nn.Sigmoid()]
        self.rest = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        return self.rest(self.first(z).unflatten(1, (-1, self.start, self.start)))


class Critic(nn.Module):
    """Images ``[B, C, S, S]`` to scores ``[B]``."""

    def __init__(self, side: int, channels: int):
        super().__init__()
        check_side(side)
        layers: list[nn.Module] = []
        width, before, size = _WIDTH[side], channels, side
        while size > 2:
            layers += [nn.Conv2d(before, width, 4 if size > 4 else 3, 2, 1), nn.LeakyReLU(0.2)]
            before, width, size = width, min(2 * width, 8 * _WIDTH[side]), size // 2
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.score = nn.Linear(before * size * size, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.score(self.body(2 * x - 1)).squeeze(1)


def check_side(side: int) -> None:
    """Raises InputError for images that no network here makes."""
    if side not in LATENT:
        raise InputError(f"images of {side} x {side}: generators here make 8 x 8 to 64 x 64")


# The losses of WGAN-GP (arXiv 1704.00028), and equation 7 of arXiv 2510.00253 for the generator.
#
# The paper gives no formula for the generator's coded loss. Here it is the generator's loss at the decoded
# images: L = (1 - mu) L(G(z)) + mu L(D G(E z)) with L(x) = -mean of the critic's scores.


def critic_loss(
    critic: nn.Module, real: Tensor, fake: Tensor, mix: Tensor, penalty: float
) -> tuple[Tensor, Tensor]:
    """The critic's loss, and the distance that it estimates.

    Args:
        real, fake: images [B, C, S, S]. mix: [B] in [0, 1], where between the two the gradient is asked for.
    Returns:
        the loss, and mean score of real less fake images, without gradient.
    """
    between = mix[:, None, None, None]
    x = (between * real + (1 - between) * fake).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    gap = critic(real).mean() - critic(fake).mean()
    slope = gradient.flatten(1).norm(dim=1)
    return -gap + penalty * ((slope - 1) ** 2).mean(), gap.detach()


def generator_loss(
    generator: nn.Module, critic: nn.Module, z: Tensor, coded: Codec | None, mu: float
) -> Tensor:
    """The generator's loss at latents ``z`` [K, latent]; without a codec mu means nothing."""
    main = -critic(generator(z)).mean()
    if coded is None:
        return main
    return (1 - mu) * main - mu * critic(coded.smoothed(z[None], generator)[0]).mean()


STATE, POINTS, SAMPLES = "gan.state.pt", "history.csv", "samples.npy"
SHOWN = 16  # images that a report shows
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
        self._data = data
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
        self._coded = None if config.n is None else Codec(k, config.n)
        self.iteration = 0
        self.gap = 0.0
        self.seconds = {"critic": 0.0, "generator": 0.0}  # of processor time

    def step(self) -> None:
        """``critic_steps`` of the critic and one of the generator."""
        config, start = self.config, time.process_time()
        self.generator.train()
        for i in range(config.critic_steps):
            draws = self._stream("critic", self.iteration * config.critic_steps + i)
            rows = torch.randint(len(self._data), (config.batch_size,), generator=draws)
            mix = torch.rand(config.batch_size, generator=draws).to(self._device)
            with torch.no_grad():
                fake = self.generator(self._latents(draws, config.batch_size))
            loss, gap = critic_loss(
                self.critic, self._data.batch(rows)[0].to(self._device), fake, mix, config.penalty
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
        for mean, now in zip(self.mean.parameters(), self.generator.parameters(), strict=True):
            mean.lerp_(now, 1 - decay)
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
    bar: Progress,
) -> list[GeneratorPoint]:
    """Trains to ``config.iterations`` and returns all measurements.

    Args:
        measure: of generated images; asked every ``config.every`` iterations and at the end.
        folder: holds history.csv, the state and the images shown last.
        bar: shows every iteration and measurement.

    Raises:
        InputError: the folder holds another training, or its state is damaged.
    """
    training = Training(config, data, device)
    records = Records(folder / POINTS, GeneratorPoint)
    state = load_state(folder / STATE, config.fingerprint())
    if state is not None:
        training.restore(state)
    records.rows = [point for point in records.rows if point.iteration <= training.iteration]
    bar.start(config.iterations, 1)
    while training.iteration < config.iterations:
        training.step()
        bar.step(training.iteration - 1, 0)
        if training.iteration % config.every == 0 or training.iteration == config.iterations:
            images = training.sample(config.samples)
            distance, score = measure(images)
            seconds = training.seconds
            point = GeneratorPoint(
                config.variant, config.n, config.seed, training.iteration, distance, score, training.gap,
                seconds["generator"] / training.iteration, seconds["critic"] / training.iteration,
            )  # fmt: skip
            shown = io.BytesIO()
            np.save(shown, (255 * images[:SHOWN]).round().byte().numpy(), allow_pickle=False)
            write_bytes(folder / SAMPLES, shown.getvalue())
            save_state(folder / STATE, config.fingerprint(), training.state())
            records.add([point])
            bar.done(training.iteration, f"FD {distance:.3f}, IS {score:.3f}")
    return records.rows


def _number(seed: int, purpose: str, index: int) -> int:
    digest = hashlib.blake2b(f"{seed}/{purpose}/{index}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")
