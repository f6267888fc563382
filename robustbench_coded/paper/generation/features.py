"""Frechet distance and inception score by a classifier of our own."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robustbench_coded.data.dataset import Dataset
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.setup import checkpoints
from robustbench_coded.models import loading

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
    array = np.asarray(features, np.float64)
    mean = array.mean(axis=0)
    root = (array - mean) / np.sqrt(len(array) - 1)
    if len(root) > root.shape[1]:
        values, vectors = np.linalg.eigh(root.T @ root)
        root = (vectors * np.sqrt(np.clip(values, 0, None))).T
    return Moments(mean, root)


def frechet_distance(own: Moments, other: Moments) -> float:
    """Squared 2-Wasserstein distance of the normal distributions with these moments.

    The trace of the root of the product of two covariances is the sum of the singular values of the product
    of their roots. Equal to torch-fidelity's FID, which takes eigenvalues of a product that is not symmetric.
    """
    gap = own.mean - other.mean
    cross = np.linalg.svd(own.root @ other.root.T, compute_uv=False).sum()
    return float(max(gap @ gap + (own.root**2).sum() + (other.root**2).sum() - 2 * cross, 0.0))


def inception_score(probabilities: NDArray[np.floating]) -> float:
    """exp of the mean divergence of answers [n, classes] from their mean: 1 to the number of classes."""
    p = np.asarray(probabilities, np.float64)
    terms = p * (np.log(np.clip(p, 1e-30, None)) - np.log(np.clip(p.mean(axis=0), 1e-30, None)))
    return float(np.exp(terms.sum(axis=1).mean()))


_EXAMPLES = 512  # by which a normalisation is recognised
AT_ONCE = 500  # images of one forward


class Classifier:
    """A checkpoint that answers with what enters its last linear layer, and with probabilities.

    Args:
        path: the checkpoint; only weights are read, nothing in it is run.
        data: images that it was made for.

    Raises:
        InputError: it can't be read, was made for other images, or ends in no linear layer.
    """

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


def answers(network: Classifier, images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Features and probabilities of all images."""
    features, probabilities = zip(*map(network, images.split(AT_ONCE)))
    return torch.cat(features).numpy(), torch.cat(probabilities).numpy()
