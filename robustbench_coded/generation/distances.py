"""Figures of generated images: Frechet distance (arXiv 1706.08500) and inception score (arXiv 1606.03498).

Both are computed on the features and probabilities of whatever network one names; they carry its name, and
values of two networks are not comparable.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


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
