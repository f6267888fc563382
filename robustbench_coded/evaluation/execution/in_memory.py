"""What an evaluation is handed in memory: data, models and defences, in place of files and names."""

import copy
import hashlib
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_coded.data.dataset import Dataset
from robustbench_coded.defences.options import DEFENCES, parse_defence
from robustbench_coded.defences.plugin import as_defence
from robustbench_coded.defences.protocol import Defence
from robustbench_coded.errors import InputError, described
from robustbench_coded.models.pixel_model import PixelModel

PREFIX = "given:"  # of the specification of a defence in memory; its name follows


def is_plugin(spec: str) -> bool:
    """Whether a specification names user code."""
    return spec.startswith(PREFIX) or parse_defence(spec).kind not in DEFENCES


@dataclass(frozen=True)
class InMemory:
    """Things in memory; what is left out comes from where the options say.

    Attributes:
        data: in place of ``--data``.
        models: by name, beside ``--ckpt``: pixels [B, C, H, W] in [0, 1] -> logits [B, classes]. They are
            copied, put into eval mode and frozen.
        defences: by name, beside ``--defence``: a defence, a module that samples inside itself, or a function
            or class that builds either around a model. One that is neither is put behind every
            checkpoint as it is, whatever model it has inside.
    """

    data: Dataset | None = None
    models: Mapping[str, nn.Module] = field(default_factory=dict)
    defences: Mapping[str, Any] = field(default_factory=dict)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[bytes]]:
        # Plain pickles: torch's own way of sending tensors to a process hands over files that go with it.
        return _unpickled, (pickle.dumps((self.data, dict(self.models), dict(self.defences))),)

    def check_sendable(self) -> None:
        """Raises InputError where other processes can't be given these things."""
        try:
            pickle.dumps(self)
        except Exception as error:  # the user's classes can fail in any way
            raise InputError(
                "what is in memory can't be sent to other processes "
                f"({type(error).__name__}: {error}); leave --workers and --engine out"
            ) from error

    def model(self, name: str, data: Dataset) -> PixelModel:
        """A given model as every other: frozen, in eval mode, its number of classes known.

        Raises:
            InputError: it does not answer the first images with logits for every label of the data.
        """
        network = copy.deepcopy(self.models[name])
        if isinstance(network, PixelModel):
            return network
        classes = _answers(network.eval(), data, name).shape[1]
        if classes <= int(data.labels.max()):
            raise InputError(
                f"{name}: it answers {classes} classes, {data.name} has label {int(data.labels.max())}; "
                "give the data it was trained on"
            )
        channels = data.image_shape[0]
        arch = type(network).__name__
        return PixelModel(network, (0.0,) * channels, (1.0,) * channels, classes=classes, arch=arch)

    def defence(self, spec: str, model: nn.Module) -> Defence:
        """The defence that a specification with `PREFIX` names, around ``model``.

        Raises:
            InputError: what was given is no defence.
        """
        name = spec.removeprefix(PREFIX).rpartition("@")[0] or spec.removeprefix(PREFIX)
        built = self.defences[name]
        builds = isinstance(built, type) or not (isinstance(built, nn.Module) or hasattr(built, "logits"))
        if builds and callable(built):
            built = built(model)
        return as_defence(built, model, name=name, said=f"defence {name}: expected a defence, got")


def weights_digest(model: nn.Module) -> str:
    """sha256 of a module's class and state: equal for equal weights of one architecture."""
    digest = hashlib.sha256(f"{type(model).__module__}.{type(model).__qualname__}".encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        if isinstance(value, Tensor):
            digest.update(f"{value.dtype}{list(value.shape)}".encode())
            value = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        digest.update(value if isinstance(value, bytes) else repr(value).encode())
    return digest.hexdigest()


@torch.no_grad()
def answers_digest(defence: Defence, x: Tensor) -> str:
    """A short hash of what a defence answers to x [k, C, H, W] in one draw.

    Code in memory has no file to tell it by. Another defence under a known name answers otherwise, and so
    outcomes of the one are not taken for those of the other.
    """
    logits = defence.logits(x, defence.sample(torch.Generator().manual_seed(0), len(x))).float().cpu()
    # In thousandths of the largest logit, so that rounding on another number of threads changes nothing.
    thousandths = (1000 * logits / logits.abs().max().clamp(min=1e-30)).round().to(torch.int16)
    return hashlib.blake2b(thousandths.numpy().tobytes(), digest_size=4).hexdigest()


class Alone(nn.Module):
    """A defence that names no base model, where a model is wanted: its answers in one draw, k at a time.

    It serves to look at the defence and to time it; nothing is attacked through it.
    """

    def __init__(self, defence: Defence, k: int):
        super().__init__()
        self.defence = defence
        self.k = k

    def images(self, count: int) -> int:
        """Images through the network for ``count`` inputs."""
        images = getattr(self.defence, "images", None)
        return -(-count // self.k) * (int(images(self.k)) if callable(images) else self.k)

    def forward(self, x: Tensor) -> Tensor:
        whole = x[torch.arange(-(-len(x) // self.k) * self.k, device=x.device) % len(x)]
        draw = self.defence.sample(torch.Generator().manual_seed(0), self.k)
        return torch.cat([self.defence.logits(batch, draw) for batch in whole.split(self.k)])[: len(x)]


@torch.no_grad()
def _answers(model: nn.Module, data: Dataset, name: str) -> Tensor:
    x = data.batch(range(min(4, len(data))))[0]
    try:
        device = next(model.parameters(), x).device
        with torch.random.fork_rng():  # it may sample
            torch.manual_seed(0)
            answers = model(x.to(device))
    except Exception as error:  # the user's code can fail in any way
        raise InputError(f"{name}: the model fails on images {list(x.shape)}: {described(error)}") from error
    if not isinstance(answers, Tensor) or answers.ndim != 2 or len(answers) != len(x):
        shape = list(answers.shape) if isinstance(answers, Tensor) else type(answers).__name__
        raise InputError(f"{name}: expected logits [{len(x)}, classes], got {shape}")
    return answers


def _unpickled(state: bytes) -> InMemory:
    return InMemory(*pickle.loads(state))
