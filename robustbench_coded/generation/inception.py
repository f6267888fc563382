"""Inception features for FID and IS, by torch-fidelity's network and weights that the user names."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustbench_coded.errors import InputError
from robustbench_coded.models.archive import read_archive

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
