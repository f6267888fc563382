"""Writes checkpoints: safetensors with metadata, whole or not at all, the same bytes each time."""

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from robustbench_coded.models.metadata import KEY
from robustbench_coded.runs.atomic import write_bytes


def save_checkpoint(path: str | Path, network: nn.Module, metadata: dict[str, Any]) -> None:
    """Saves the weights of ``network`` beside ``metadata``.

    Args:
        path: a file ending in ``.safetensors``; one that is there is replaced in one step.
        network: as built by ``models.build``; saved from whatever device it is on.
        metadata: plain data; ``arch``, ``classes``, ``image_shape`` ([channels, height, width]) and
            ``normalisation`` (``{"mean": [...], "std": [...]}`` or a known name) are what loading reads.
    Raises:
        ValueError: weights that are NaN or infinite, or metadata that are not JSON.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"expected finite weights, got NaN or infinite ones in {name}")
    try:
        text = json.dumps(metadata, sort_keys=True, allow_nan=False)
    except TypeError as error:
        raise ValueError(f"expected metadata fit for JSON, got {error}") from None
    write_bytes(Path(path), safetensors.torch.save(tensors, {KEY: text}))
