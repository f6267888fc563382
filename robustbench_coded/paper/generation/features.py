"""Frechet distance and inception score by Inception or by a classifier of our own."""

import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robustbench_coded.data.dataset import Dataset
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.setup import checkpoints
from robustbench_coded.models import loading
from robustbench_coded.models.archive import read_archive

# Figures of generated images: Frechet distance (arXiv 1706.08500) and inception score (arXiv 1606.03498).
#
# Both are computed on the features and probabilities of whatever network one names; they carry its name, and
# values of two networks are not comparable.


class Moments(NamedTuple):
    """Attributes:
    mean: of features, [d].
    root: [r, d], r at most d; its transpose times itself is the features' covariance.
    """

    mean: NDArray[np.float64]
    root: NDArray[np.float64]


def moments(features: NDArray[np.floating]) -> Moments:
    """Of features [n, d], n at least 2."""
    found = np.asarray(features, np.float64)
    mean = found.mean(axis=0)
    root = (found - mean) / np.sqrt(len(found) - 1)
    if len(root) > root.shape[1]:
        values, vectors = np.linalg.eigh(root.T @ root)
        root = (vectors * np.sqrt(np.clip(values, 0, None))).T
    return Moments(mean, root)


def frechet_distance(one: Moments, other: Moments) -> float:
    """Squared 2-Wasserstein distance of the normal distributions with these moments.

    The trace of the root of the product of two covariances is the sum of the singular values of the product
    of their roots. Equal to torch-fidelity's FID, which takes eigenvalues of a product that is not symmetric.
    """
    gap = one.mean - other.mean
    cross = np.linalg.svd(one.root @ other.root.T, compute_uv=False).sum()
    return float(max(gap @ gap + (one.root**2).sum() + (other.root**2).sum() - 2 * cross, 0.0))


def inception_score(probabilities: NDArray[np.floating]) -> float:
    """exp of the mean divergence of answers [n, classes] from their mean: 1 to the number of classes."""
    p = np.asarray(probabilities, np.float64)
    terms = p * (np.log(np.clip(p, 1e-30, None)) - np.log(np.clip(p.mean(axis=0), 1e-30, None)))
    return float(np.exp(terms.sum(axis=1).mean()))


_EXAMPLES = 512  # by which a normalisation is recognised


class Classifier:
    """A checkpoint that answers with what enters its last linear layer, and with probabilities.

    Args:
        path: the checkpoint; only weights are read, nothing in it is run.
        data: images that it was made for.

    Raises:
        InputError: it can't be read, was made for other images, or ends in no linear layer.
    """

    inception = published = False
    at_once = 500

    def __init__(self, path: str | Path, data: Dataset, device: torch.device):
        checkpoint = loading.load_checkpoint(str(path))
        loading.check_data(checkpoint, data.image_shape, data.classes, data.name)
        model = checkpoints.with_normalisation(checkpoint, *data.batch(range(min(_EXAMPLES, len(data)))))
        linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise InputError(f"{path}: a classifier without a linear layer has no features to measure by")
        self.name = f"{checkpoint.arch}, {checkpoint.sha256[:12]}"
        self._model = model.to(device).eval()
        self._device = device
        self._entered: list[Tensor] = []
        linear[-1].register_forward_pre_hook(lambda module, inputs: self._entered.append(inputs[0]))

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features [n, d] and probabilities [n, classes] of images [n, C, S, S] in [0, 1]."""
        self._entered.clear()
        probabilities = self._model(images.to(self._device)).softmax(dim=1).cpu()
        # A model answers many images in pieces.
        return torch.cat([piece.flatten(1).cpu() for piece in self._entered]), probabilities

    def score(self, answers: np.ndarray) -> float:
        """The inception score of probabilities [n, classes], of all of them at once."""
        return inception_score(answers)


# Of torch-fidelity's release 0.2.0; its name ends with how its SHA-256 begins.
PUBLISHED = "weights-inception-2015-12-05-6726825d.pth"
_LAYERS = ["2048", "logits_unbiased"]  # of FID and of IS


class Inception:
    """The Inception network of the TensorFlow programs for FID and IS, as torch-fidelity translated it.

    Args:
        path: its weights. They are read by this project, weights only: torch-fidelity's own reader runs code
            that a file may hold, and downloads where none is named.

    Raises:
        InputError: torch-fidelity is not installed, or the file holds no weights of this network.
    """

    inception = True
    at_once = 50

    def __init__(self, path: Path, device: torch.device):
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
            from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric
        except ImportError as error:
            raise InputError(
                "--features inception:FILE needs the package torch-fidelity: pip install 'csrobust[fid]'"
            ) from error
        archive = read_archive(path)
        weights = _weights(archive.contents, path)
        copy = io.BytesIO()  # of tensors alone, for a constructor that only reads files
        torch.save(weights, copy)
        copy.seek(0)
        try:
            network = FeatureExtractorInceptionV3("inception-v3-compat", _LAYERS, copy)
        except RuntimeError as error:
            raise _refused(path, _first(str(error))) from None
        self.name = f"inception-v3, {archive.sha256[:12]}"
        self.published = archive.sha256.startswith(PUBLISHED.rpartition("-")[2].removesuffix(".pth"))
        self._network: Any = network.to(device).eval()
        self._device = device
        self._score = lambda logits: isc_features_to_metric(logits)[KEY_METRIC_ISC_MEAN]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features [n, 2048] and logits [n, 1008] of images [n, C, S, S] in [0, 1], C 1 or 3.

        Images are rounded to bytes. The network enlarges them to 299 x 299 as the original program did.
        """
        pixels = (255 * images).round().to(torch.uint8).expand(-1, 3, -1, -1)
        features, logits = self._network(pixels.to(self._device))
        return features.cpu(), logits.cpu()

    def score(self, answers: np.ndarray) -> float:
        """The inception score of logits [n, 1008]: mean over ten parts in a fixed random order."""
        return float(self._score(torch.from_numpy(answers)))


def _weights(contents: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(contents, Mapping):
        raise _refused(path, "it holds no state dict")
    for name, tensor in contents.items():
        if not isinstance(tensor, Tensor):
            raise _refused(path, f"no state dict: {str(name)[:60]} is no tensor")
        if not torch.isfinite(tensor).all():
            raise _refused(path, f"{str(name)[:60]} is not finite")
    return dict(contents)


def _first(text: str) -> str:
    """The first thing that does not fit, of what torch says in many lines."""
    line = " ".join(text.splitlines()[1:2]).strip() or text
    return re.sub(r'(key\(s\) in state_dict: "[^"]*"),.*', r"\1 and others", line).rstrip(". ")


def _refused(path: Path, why: str) -> InputError:
    return InputError(f"{path}: not the weights of torch-fidelity's Inception ({why}); give {PUBLISHED}")


INCEPTION = "inception:"


class Network(Protocol):
    """Attributes:
    name: as reports name it, with the hash of its file.
    inception: whether its figures are FID and IS.
    published: whether its file is the published one of that network.
    at_once: images of one forward.
    """

    name: str
    inception: bool
    published: bool
    at_once: int

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features [n, d] and what ``score`` takes of images [n, C, S, S] in [0, 1], on the CPU."""
        ...

    def score(self, answers: np.ndarray) -> float:
        """The inception score of answers [n, ...]."""
        ...


def network_named(text: str, data: Dataset, device: torch.device) -> Network:
    """``inception:FILE`` or a checkpoint of a classifier made for ``data``.

    Raises:
        InputError: the file can't be used.
    """
    if text.startswith(INCEPTION):
        return Inception(Path(text.removeprefix(INCEPTION)), device)
    return Classifier(text, data, device)


def answers(
    network: Network, images: Tensor, seen: Callable[[int], None] = lambda count: None
) -> tuple[np.ndarray, np.ndarray]:
    """Features and answers of all images; ``seen`` is told after each forward how many it had."""
    features, found = [], []
    for chunk in images.split(network.at_once):
        one, other = network(chunk)
        features.append(one)
        found.append(other)
        seen(len(chunk))
    return torch.cat(features).numpy(), torch.cat(found).numpy()
