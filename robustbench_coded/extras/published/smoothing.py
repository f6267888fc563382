"""Published defences by noise and mixtures: on the input, on features, on weights; votes over noisy copies,
self-ensembles, adaptive smoothing.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from robustbench_coded.defences.protocol import Deterministic, Seeded, WrappedNetwork, normal
from robustbench_coded.errors import InputError
from robustbench_coded.extras.published.activations import LAYERS, ChangedLayers
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.pixel_model import PixelModel

SIGMA, VOTES = 0.25, 25


class RandomisedSmoothing(WrappedNetwork, Seeded):
    """Counts the classes of noisy copies. A count has no gradient; the mean probabilities lend theirs."""

    def __init__(self, model: nn.Module, sigma: float = SIGMA, votes: int = VOTES):
        super().__init__(model)
        self.sigma = sigma
        self.votes = self.passes = votes

    def logits(self, x: Tensor, draw: int) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]: ten times the shares of the votes."""
        noise = normal(draw, x.expand(self.votes, *x.shape))
        answers = self.model((x + self.sigma * noise).flatten(0, 1)).unflatten(0, noise.shape[:2])
        soft = answers.softmax(-1).mean(0)
        votes = nn.functional.one_hot(answers.argmax(-1), answers.shape[-1]).to(soft).mean(0)
        return 10 * (soft + (votes - soft).detach())


FIRST, INNER = 0.2, 0.1  # deviations of the noise
PASSES = 10


def _noise(a: Tensor, generator: torch.Generator, layer: int) -> Tensor:
    return a + (INNER if layer else FIRST) * normal(generator, a)


class RandomSelfEnsemble(ChangedLayers, Seeded):
    """Logits are logarithms of the mean probabilities of ``PASSES`` noisy passes."""

    change = staticmethod(_noise)
    changed = slice(None)
    passes = PASSES

    def logits(self, x: Tensor, draw: int | None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        copies = x.expand(PASSES, *x.shape).flatten(0, 1)
        answers = super().logits(copies, draw).log_softmax(-1).unflatten(0, (PASSES, len(x)))
        return answers.logsumexp(0) - torch.tensor(PASSES).log().item()


SCALE = 0.25  # of the deviation of a layer's weights


class ParametricNoise(WrappedNetwork, Seeded):
    """Every answer is that of the network with weights w + 0.25 std(w) n, n normal and drawn anew."""

    def logits(self, x: Tensor, draw: int) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        generator = torch.Generator().manual_seed(draw)
        noisy = {}
        for name, layer in self.model.named_modules():
            if isinstance(layer, LAYERS):
                noise = layer.weight.std() * normal(generator, layer.weight)
                noisy[f"{name}.weight".lstrip(".")] = layer.weight + SCALE * noise
        return functional_call(self.model, noisy, (x,))


ROBUST = 0.6  # weight of the robust network; from a half on, its margins can protect the mixture
SHIPPED = {1: "digits-pgd-at", 3: "cifar10-pgd-at-resnet20"}  # by channels


class AdaptiveSmoothing(WrappedNetwork, Deterministic):
    """Logits are log(0.4 p + 0.6 q), p of the given network and q of the robust one."""

    passes = 2

    def __init__(self, model: nn.Module):
        """Raises InputError where no robust network for these images is shipped."""
        super().__init__(model)
        channels, classes = getattr(model, "channels", None), getattr(model, "classes", None)
        if channels not in SHIPPED or classes != 10:
            raise InputError(
                f"published:adaptive-smoothing has a robust network for digits and CIFAR-10 alone, not for "
                f"images of {channels} channels and {classes} classes; give a checkpoint of one of these"
            )
        saved = load_checkpoint(SHIPPED[channels])
        assert saved.normalisation is not None
        device = next(model.parameters()).device
        mean, std = saved.normalisation.mean, saved.normalisation.std
        self.robust = PixelModel(saved.network, mean, std, classes=saved.classes, arch=saved.arch).to(device)

    def logits(self, x: Tensor, draw: None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        mixed = (1 - ROBUST) * self.model(x).softmax(-1) + ROBUST * self.robust(x).softmax(-1)
        return mixed.clamp(min=1e-30).log()


ON_THE_SPHERE = 0.25  # deviation of the noise, as a share of that of a feature vector or a class's weights
COSINES = 16.0


class Dsgn(WrappedNetwork, Seeded):
    """The network whose last linear layer answers with cosines between noisy features and noisy weights."""

    def __init__(self, model: nn.Module):
        """Raises InputError where the network has no linear layer."""
        super().__init__(model)
        heads = [part for part in model.modules() if isinstance(part, nn.Linear)]
        if not heads:
            raise InputError("the network has no linear layer to sample; give a checkpoint of one that has")
        self.head = heads[-1]

    def logits(self, x: Tensor, draw: int) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        generator = torch.Generator().manual_seed(draw)

        def cosines(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
            features, weights = (on_the_sphere(a, generator) for a in (given[0], self.head.weight))
            return COSINES * features @ weights.T

        with self.head.register_forward_hook(cosines):
            return self.model(x)


def on_the_sphere(a: Tensor, generator: torch.Generator) -> Tensor:
    """Vectors [n, d] with noise in proportion to their deviation, of length 1."""
    noise = ON_THE_SPHERE * a.std(-1, keepdim=True) * normal(generator, a)
    return nn.functional.normalize(a + noise, dim=-1)


ON_INPUT = 0.05


class RandomNoiseDefence(WrappedNetwork, Seeded):
    """The network's answer to the input plus small noise."""

    def logits(self, x: Tensor, draw: int) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        return self.model(x + ON_INPUT * normal(draw, x))


ON_FEATURES = 0.1


def noisy(a: Tensor, generator: torch.Generator, layer: int = 0) -> Tensor:
    """Activations [k, ...] of which each input's have noise in proportion to their own deviation."""
    deviation = a.detach().flatten(1).std(1).view(-1, *[1] * (a.ndim - 1))
    return a + ON_FEATURES * deviation * normal(generator, a)


class RandomFeatureNoise(ChangedLayers, Seeded):
    """The network with noise before every layer but the first."""

    change = staticmethod(noisy)
