"""The options of one training of a generator, and the file of its measurements."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any, NamedTuple

from msgspec import Meta

from robustbench_coded.coding.sizes import FEWEST
from robustbench_coded.paper.training.recipes import Share, Steps, checked

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
