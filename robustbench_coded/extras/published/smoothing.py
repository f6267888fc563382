"""Published defences by noise and mixtures: randomised smoothing, self-ensembles, noise on weights, adaptive
smoothing.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from robustbench_coded.defences.inferences import standard_normal
from robustbench_coded.defences.protocol import Deterministic, Seeded, WrappedNetwork
from robustbench_coded.errors import InputError
from robustbench_coded.extras.published.activations import LAYERS, ChangedLayers
from robustbench_coded.extras.published.registry import PaperRecord
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.pixel_model import PixelModel

RANDOMISED_SMOOTHING = PaperRecord(
    about="Randomised smoothing: a majority vote over noisy copies, with a certificate in l2",
    title="Certified Adversarial Robustness via Randomized Smoothing",
    arxiv="1902.02918",
    section="3",
    year=2019,
    random="Gaussian noise on every copy of every input",
    claim="certified 49% on ImageNet at l2 0.5",
    setting="25 votes under noise of deviation 0.25, on the given network; it never abstains",
)
SIGMA, VOTES = 0.25, 25


class RandomisedSmoothing(WrappedNetwork, Seeded):
    """Counts the classes of noisy copies. A count has no gradient; the mean probabilities lend theirs."""

    def __init__(self, model: nn.Module, sigma: float = SIGMA, votes: int = VOTES):
        super().__init__(model)
        self.sigma = sigma
        self.votes = votes

    def images(self, k: int) -> int:
        """Images through the network for a batch of ``k``."""
        return k * self.votes

    def logits(self, x: Tensor, draw: int) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]: ten times the shares of the votes."""
        noise = standard_normal(draw, (self.votes, *x.shape)).to(x)
        answers = self.model((x + self.sigma * noise).flatten(0, 1)).unflatten(0, noise.shape[:2])
        soft = answers.softmax(-1).mean(0)
        votes = nn.functional.one_hot(answers.argmax(-1), answers.shape[-1]).to(soft).mean(0)
        return 10 * (soft + (votes - soft).detach())


RANDOM_SELF_ENSEMBLE = PaperRecord(
    about="Random self-ensemble: noise before every layer, probabilities averaged over passes",
    title="Towards Robust Neural Networks via Random Self-ensemble",
    arxiv="1712.00673",
    section="3",
    year=2018,
    random="Gaussian noise on the input of every layer, anew in each of ten passes",
    claim="86% on CIFAR-10 (VGG) under C&W within a stated distortion, where the base model keeps 10%",
    setting="deviations 0.2 before the first layer, then 0.1; 10 passes",
    untrained="around a network that was not trained with noise",
)
FIRST, INNER = 0.2, 0.1  # deviations of the noise
PASSES = 10


def _noise(a: Tensor, generator: torch.Generator, layer: int) -> Tensor:
    return a + (INNER if layer else FIRST) * torch.randn(a.shape, generator=generator).to(a)


class RandomSelfEnsemble(ChangedLayers, Seeded):
    """Logits are logarithms of the mean probabilities of ``PASSES`` noisy passes."""

    change = staticmethod(_noise)
    skip_first = False

    def images(self, k: int) -> int:
        """Images through the network for a batch of ``k``."""
        return k * PASSES

    def logits(self, x: Tensor, draw: int | None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        copies = x.expand(PASSES, *x.shape).flatten(0, 1)
        answers = super().logits(copies, draw).log_softmax(-1).unflatten(0, (PASSES, len(x)))
        return answers.logsumexp(0) - torch.tensor(PASSES).log().item()


PARAMETRIC_NOISE = PaperRecord(
    about="Parametric noise injection: noise on the weights of every layer",
    title="Parametric Noise Injection: Trainable Randomness to Improve Deep Neural Network Robustness",
    arxiv="1811.09310",
    section="3",
    year=2019,
    random="Gaussian noise on the weights of every layer",
    claim="6.8 points more than adversarial training under PGD on CIFAR-10 (ResNet-20)",
    setting="the scale of the noise stays at 0.25, from where the paper trains it",
    untrained="around a network that was not trained with noise",
)
SCALE = 0.25  # of the deviation of a layer's weights


class ParametricNoise(WrappedNetwork, Seeded):
    """Every answer is that of the network with weights w + 0.25 std(w) n, n normal and drawn anew."""

    def logits(self, x: Tensor, draw: int) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        generator = torch.Generator().manual_seed(draw)
        noisy = {}
        for name, layer in self.model.named_modules():
            if isinstance(layer, LAYERS):
                weight = layer.weight
                noise = torch.randn(weight.shape, generator=generator).to(weight)
                noisy[f"{name}.weight" if name else "weight"] = weight + SCALE * weight.std() * noise
        return functional_call(self.model, noisy, (x,))


ADAPTIVE_SMOOTHING = PaperRecord(
    about="Adaptive smoothing: mixes the probabilities of an accurate and a robust network",
    title="Improving the Accuracy-Robustness Trade-Off of Classifiers via Adaptive Smoothing",
    arxiv="2301.12554",
    section="4",
    year=2023,
    claim="38.72% on CIFAR-100 at linf 8/255 under AutoAttack, 85.21% clean",
    setting="a fixed weight of 0.6 for a robust network that this package ships; none that chooses it",
)
ROBUST = 0.6  # weight of the robust network; from a half on, its margins can protect the mixture
SHIPPED = {1: "digits-pgd-at", 3: "cifar10-pgd-at-resnet20"}  # by channels


class AdaptiveSmoothing(WrappedNetwork, Deterministic):
    """Logits are log(0.4 p + 0.6 q), p of the given network and q of the robust one."""

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

    def images(self, k: int) -> int:
        """Images through a network for a batch of ``k``."""
        return 2 * k

    def logits(self, x: Tensor, draw: None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        mixed = (1 - ROBUST) * self.model(x).softmax(-1) + ROBUST * self.robust(x).softmax(-1)
        return mixed.clamp(min=1e-30).log()


DSGN = PaperRecord(
    about="DSGN: noise on features and on the classifier's weights, both on the unit sphere",
    title="Dual Stochasticity and Geometric Normalization",
    arxiv="Sensors 2025",
    section="3",
    year=2025,
    random="Gaussian noise on the features before the last layer, and on the weights of that layer",
    claim="1 to 6 points more robust accuracy than the best baseline under PGD, 1 to 17 under AutoAttack, on "
    "several data sets (Sensors 25/23/7398)",
    setting="noise of a quarter of each feature vector's and each class's deviation, where the paper learns "
    "its size from the input; logits are 16 times the cosine. Written from the abstract; no code was found",
    untrained="around a network that was not trained with noise and cosines",
)
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

        hook = self.head.register_forward_hook(cosines)
        try:
            return self.model(x)
        finally:
            hook.remove()


def on_the_sphere(a: Tensor, generator: torch.Generator) -> Tensor:
    """Vectors [n, d] with noise in proportion to their deviation, of length 1."""
    noise = torch.randn(a.shape, generator=generator).to(a)
    return nn.functional.normalize(a + ON_THE_SPHERE * a.std(-1, keepdim=True) * noise, dim=-1)
