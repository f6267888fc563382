"""Features and probabilities of a classifier of this project or of the user's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from robustbench_coded.data.dataset import Dataset
from robustbench_coded.errors import InputError
from robustbench_coded.generation.distances import inception_score
from robustbench_coded.models.checkpoint import check_data
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.with_normalisation import with_normalisation

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
        checkpoint = load_checkpoint(str(path))
        check_data(checkpoint, data.image_shape, data.classes, data.name)
        model = with_normalisation(checkpoint, *data.batch(range(min(_EXAMPLES, len(data)))))[0]
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
