"""Plain and coded generators over seeds, trained into one folder, and the report on them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustbench_coded.data.dataset import Dataset
from robustbench_coded.data.image_folders import load_celeba
from robustbench_coded.data.registry import load_data, sized
from robustbench_coded.errors import InputError
from robustbench_coded.paper.generation.config import GanConfig
from robustbench_coded.paper.generation.features import (
    AT_ONCE,
    Classifier,
    Inception,
    Network,
    answers,
    frechet_distance,
    inception_score,
    measuring,
    moments,
)
from robustbench_coded.paper.generation.report import FACTS, write_gan_report
from robustbench_coded.paper.generation.train import train
from robustbench_coded.paper.training.listener import Progress
from robustbench_coded.runs.atomic import remove_unfinished, write_text

CPU = torch.device("cpu")
CELEBA_SIZE = 64  # of the paper


def study(
    configs: Sequence[GanConfig],
    features: str,
    folder: Path,
    *,
    seeds: int,
    data_dir: Path | None = None,
    device: torch.device = CPU,
    quiet: bool = False,
) -> Path:
    """Trains every configuration with ``seeds`` seeds, measures them by one network, and reports.

    The same call goes on where it stopped. The seeds come first, so that a stopped study has all variants.

    Args:
        configs: variants of one training, with the first seed.
        features: checkpoint whose features and answers images are measured by.

    Raises:
        InputError: data, checkpoint, options or the folder are not usable.
    """
    first = configs[0]
    data, held_out = (_images(first.data, split, data_dir) for split in ("train", "test"))
    if min(len(data), len(held_out)) < 2:
        raise InputError(f"--data {first.data}: one image has no covariance; give 2 or more")
    network = measuring(features, held_out, device)
    _check_same(folder, network)
    runs = list(
        dict.fromkeys(replace(config, seed=config.seed + i) for i in range(seeds) for config in configs)
    )
    real = moments(_answers(network, data)[0])
    beside, test = _answers(network, held_out)
    options = {name: value for name, value in asdict(first).items() if name not in ("n", "seed", "data")}
    facts: dict[str, Any] = {
        "data": first.data,
        "images": len(data),
        "features": network.name,
        "test_distance": frechet_distance(moments(beside), real),
        "test_score": inception_score(test),
        "seeds": seeds,
        "iterations": first.iterations,
        "config": options,
    }
    write_text(folder / FACTS, json.dumps(facts, indent=1) + "\n")
    remove_unfinished(folder)  # of a command that was killed

    def measured(images: Tensor) -> tuple[float, float]:
        features, probabilities = answers(network, images.split(AT_ONCE))
        return frechet_distance(moments(features), real), inception_score(probabilities)

    for number, config in enumerate(runs, 1):
        bar = Progress(f"{config.name} ({number} of {len(runs)})", "iteration", quiet=quiet)
        train(config, data, measured, folder / config.name, device=device, bar=bar)
        write_gan_report(folder)
    return folder


def _images(spec: str, split: str, data_dir: Path | None) -> Dataset:
    """The images that ``--data`` names, as for ``train``, or ``celeba:DIR@SIZE``, which has no classes."""
    kind, _, place = spec.partition(":")
    if kind == "celeba":
        folder, size = sized(place)
        return load_celeba(Path(folder), split, size or CELEBA_SIZE)
    return load_data(spec, data_dir=data_dir, split=split)


def _answers(network: Network, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    return answers(network, (data.batch(rows)[0] for rows in torch.arange(len(data)).split(AT_ONCE)))


def _check_same(folder: Path, network: Classifier | Inception) -> None:
    """Figures of two networks never share a folder.

    Raises:
        InputError: what the folder holds was measured by another one.
    """
    try:
        before = json.loads((folder / FACTS).read_text())["features"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if before != network.name:
        raise InputError(f"{folder} was measured by {before}, not by {network.name}; give another --out")
