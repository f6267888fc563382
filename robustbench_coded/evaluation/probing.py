"""Every defence is probed before it is evaluated, and refused if what it does contradicts what it says."""

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from robustbench_coded.data.dataset import Dataset
from robustbench_coded.defences.probe import contradictions, probe, warnings
from robustbench_coded.defences.protocol import Defence
from robustbench_coded.defences.sampling_module import SamplingModule
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.streams import stream

FEWEST, MOST = 8, 16  # inputs of the probed batch: enough to see a dependence, and half of them still a batch


@dataclass(frozen=True)
class Probed:
    """What a probe found: its figures, and what may mislead, a sentence each."""

    figures: dict[str, Any]
    warnings: tuple[str, ...]


def probe_batch(data: Dataset, k: int) -> Tensor:
    """The first examples, in a batch of about the size that will be evaluated, [size, C, H, W]."""
    size = min(max(k, FEWEST), MOST)
    return data.batch([i % len(data) for i in range(size)])[0]


def probed(defence: Defence, x: Tensor, seed: int) -> Probed:
    """Probes a defence on one batch, and settles what a plain module left open about itself.

    Raises:
        InputError: the defence fails, or contradicts its own declaration.
    """
    result = probe(defence, x, stream(seed, -1, "probe"))
    if isinstance(defence, SamplingModule):
        defence.settle(randomised=result.randomised, batch_dependent=result.batch_dependent)
    found = contradictions(defence, result)
    if found:
        raise InputError(f"{defence.name} is not evaluated: it {'; it '.join(found)}")
    return Probed(asdict(result), tuple(warnings(defence, result)))
