"""The validation images of a run."""

import numpy as np
import torch

from robustbench_coded.data.dataset import Dataset
from robustbench_coded.training.streams import stream


def train_validation(data: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset | None]:
    """Holds out a random ``share`` of the images, another for every seed; None where that is no image."""
    held_out = round(len(data) * share)
    if not held_out:
        return data, None
    order = torch.randperm(len(data), generator=stream(seed, "split")).numpy()
    return data.subset(np.sort(order[held_out:])), data.subset(np.sort(order[:held_out]))
