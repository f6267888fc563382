"""Honest defences that are awkward to judge: each keeps the robustness of an adversarially trained network.

    csrobust eval --ckpt digits-pgd-at --defence benchmarks/errors/awkward_honest.py:shuffled --eps 0.2
        --limit 384

None of them hides anything. They leave torch, round, draw, route, or answer inputs together, as published
code does. Truth: what the network keeps, less what the change itself costs. ``NAME`` names no base model;
``NAME_over_plain``, with ``--ckpt digits-erm``, is around the robust network and names the undefended one.
"""

import json
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor, nn
from torch.nn import functional

from zoo.trained import digits_network

ROBUST, ALSO_ROBUST = "digits-pgd-at", "digits-trades"


class Honest:
    """A deterministic defence around ``model``, one input at a time; builders set the base model."""

    randomised, batch_dependent = False, False

    def __init__(self, model: nn.Module):
        self.model = model
        self.base: nn.Module | None = None
        self.name = type(self).__name__.lower()

    def sample(self, generator: torch.Generator, k: int) -> Any:
        return None

    def logits(self, x: Tensor, draw: Any) -> Tensor:
        return self.model(x)


def _hashes(x: Tensor) -> list[int]:
    """A number for the content of each image, at 8 bits."""
    return [zlib.crc32(image.tobytes()) for image in (x.detach() * 255).round().byte().cpu().numpy()]


class InNumpy(Honest):
    """The same network in numpy: nothing of torch is left to differentiate."""

    def __init__(self, model: nn.Module):
        super().__init__(model)
        self.weights = {k: v.numpy() for k, v in digits_network(ROBUST).state_dict().items()}

    def logits(self, x: Tensor, draw: Any) -> Tensor:
        w, at = self.weights, (x.detach().cpu().numpy() - self.weights["mean"]) / self.weights["std"]
        for layer, stride in ((1, 1), (2, 2), (3, 2)):
            padded = np.pad(at, ((0, 0), (0, 0), (1, 1), (1, 1)))
            patches = sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::stride, ::stride]
            at = np.einsum("nchwij,ocij->nohw", patches, w[f"network.conv{layer}.weight"], optimize=True)
            norm = {k: w[f"network.bn{layer}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")}
            mean, var, scale, shift = (v[:, None, None] for v in norm.values())
            at = np.maximum((at - mean) / np.sqrt(var + 1e-5) * scale + shift, 0)
        logits = at.mean((2, 3)) @ w["network.linear.weight"].T + w["network.linear.bias"]
        return torch.from_numpy(logits).float().to(x.device)


class Dithered(Honest):
    """Subtractive dither: noise before the quantiser of 8 levels, the same noise taken away behind it."""

    randomised = True
    step = 1 / 7

    def sample(self, generator: torch.Generator, k: int) -> int:
        return int(torch.randint(2**31, (), generator=generator))

    def logits(self, x: Tensor, draw: int) -> Tensor:
        generator = torch.Generator().manual_seed(draw)
        noise = ((torch.rand(x.shape, generator=generator) - 0.5) * self.step).to(x)
        return self.model(((x + noise) / self.step).round() * self.step - noise)


class Routed(Honest):
    """A hash of the image says which of two robust networks answers it."""

    def __init__(self, model: nn.Module):
        super().__init__(model)
        self.other = digits_network(ALSO_ROBUST)

    def logits(self, x: Tensor, draw: Any) -> Tensor:
        first = torch.tensor([number % 2 == 0 for number in _hashes(x)], device=x.device)
        return torch.where(first[:, None], self.model(x), self.other(x))


class Shuffled(Honest):
    """Answers the batch in another order, and puts the answers back."""

    batch_dependent = True

    def logits(self, x: Tensor, draw: Any) -> Tensor:
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1)).to(x.device)
        return self.model(x[order])[order.argsort()]


class Centred(Honest):
    """Takes the mean of the batch away, and adds it again."""

    batch_dependent = True

    def logits(self, x: Tensor, draw: Any) -> Tensor:
        mean = x.mean(0, keepdim=True)
        return self.model((x - mean) + mean)


class Sorted(Honest):
    """Answers the batch in the order of the images' norms, and puts the answers back."""

    batch_dependent = True

    def logits(self, x: Tensor, draw: Any) -> Tensor:
        order = x.flatten(1).norm(dim=1).argsort()
        return self.model(x[order])[order.argsort()]


class Rounded(Honest):
    """Logits to one decimal."""

    def logits(self, x: Tensor, draw: Any) -> Tensor:
        return self.model(x).round(decimals=1)


class OverJson(Honest):
    """Probabilities through JSON, as a web service would answer."""

    def logits(self, x: Tensor, draw: Any) -> Tensor:
        answer = json.dumps({"p": [[round(float(p), 6) for p in row] for row in self.model(x).softmax(1)]})
        return torch.tensor(json.loads(answer)["p"], device=x.device)


class NoiseByContent(Honest):
    """Noise whose seed is a hash of the image: the same image always gets the same."""

    def logits(self, x: Tensor, draw: Any) -> Tensor:
        drawn = [np.random.default_rng(number).normal(0, 0.05, x.shape[1:]) for number in _hashes(x)]
        return self.model(x + torch.from_numpy(np.stack(drawn)).to(x))


class InFloat64(Honest):
    """Computes in float64."""

    def __init__(self, model: nn.Module):
        super().__init__(model)
        self.exact = digits_network(ROBUST).double()

    def logits(self, x: Tensor, draw: Any) -> Tensor:
        return self.exact(x.double())


class Cached(Honest):
    """Keeps its answers, and gives them again to the same image."""

    def __init__(self, model: nn.Module):
        super().__init__(model)
        self.kept: dict[bytes, Tensor] = {}

    def logits(self, x: Tensor, draw: Any) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            return self.model(x)
        keys = [image.tobytes() for image in x.detach().cpu().numpy()]
        asked = [i for i, key in enumerate(keys) if key not in self.kept]
        if asked:
            self.kept.update(zip([keys[i] for i in asked], self.model(x[asked])))
        return torch.stack([self.kept[key] for key in keys])


class Normalised(Honest):
    """Every image to the mean and the deviation of all digits."""

    def logits(self, x: Tensor, draw: Any) -> Tensor:
        mean, deviation = x.mean((1, 2, 3), keepdim=True), x.std((1, 2, 3), keepdim=True)
        return self.model((x - mean) / (deviation + 1e-6) * 0.376 + 0.305)


class TwoCrops(Honest):
    """The mean of the answers to two crops of the image, enlarged again."""

    def logits(self, x: Tensor, draw: Any) -> Tensor:
        side = x.shape[-1]
        large = functional.interpolate(x, size=side + 1, mode="bilinear", align_corners=False)
        return (self.model(large[..., :side, :side]) + self.model(large[..., 1:, 1:])) / 2


class Watched(Honest):
    """A detector that rejects what no image in [0, 1] is: pixels above 1."""

    abstain = 10

    def logits(self, x: Tensor, draw: Any) -> Tensor:
        logits = self.model(x)
        fires = x.flatten(1).amax(1) > 1.001
        top = logits.amax(1) + torch.where(fires, 1.0, -20.0)
        return torch.cat([logits, top[:, None]], 1)


HONEST = {
    "in-numpy": InNumpy,
    "dither": Dithered,
    "routed": Routed,
    "shuffled": Shuffled,
    "centred": Centred,
    "by-norm": Sorted,
    "rounded": Rounded,
    "over-json": OverJson,
    "content-noise": NoiseByContent,
    "in-float64": InFloat64,
    "cached": Cached,
    "normalised": Normalised,
    "two-crops": TwoCrops,
    "watched": Watched,
}


def _builder(defence: type[Honest], name: str, *, over_plain: bool) -> Callable[[nn.Module], Honest]:
    def build(model: nn.Module) -> Honest:
        built = defence(digits_network(ROBUST) if over_plain else model)
        built.base, built.name = model if over_plain else None, name
        return built

    return build


for _name, _defence in HONEST.items():
    _at = _name.replace("-", "_")
    globals()[_at] = _builder(_defence, _name, over_plain=False)
    globals()[f"{_at}_over_plain"] = _builder(_defence, _name, over_plain=True)
