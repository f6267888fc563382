"""Figures of generated images: Frechet distance (arXiv 1706.08500) and inception score (arXiv 1606.03498).

Both are computed on the features and probabilities of whatever network one names; they carry its name, and
values of two networks are not comparable.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def frechet_distance(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Squared 2-Wasserstein distance of the normal distributions with the moments of features [n, d]."""
    first, second = np.asarray(one, np.float64), np.asarray(other, np.float64)
    gap = first.mean(axis=0) - second.mean(axis=0)
    a, b = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    a, b = np.atleast_2d(a), np.atleast_2d(b)
    root = _root(a)
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ b @ root), 0, None)).sum()
    return float(max(gap @ gap + np.trace(a) + np.trace(b) - 2 * cross, 0.0))


def inception_score(probabilities: NDArray[np.floating]) -> float:
    """exp of the mean divergence of answers [n, classes] from their mean: 1 to the number of classes."""
    p = np.asarray(probabilities, np.float64)
    terms = p * (np.log(np.clip(p, 1e-30, None)) - np.log(np.clip(p.mean(axis=0), 1e-30, None)))
    return float(np.exp(terms.sum(axis=1).mean()))


def _root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
