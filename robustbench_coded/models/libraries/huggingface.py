"""``hf:``: networks saved in Hugging Face's layout, a ``config.json`` beside the weights.

The configuration names the network: timm's by ``architecture``, transformers' by ``model_type``. Nothing is
fetched, and no code that a folder may hold is run.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

from torch import Tensor, nn

from robustbench_coded.errors import InputError
from robustbench_coded.models.libraries import timm_library
from robustbench_coded.models.libraries.definition import Definition, called
from robustbench_coded.models.normalisation import Normalisation, named

MAX_CONFIG_BYTES = 2**20


class LogitsOnly(nn.Module):
    """A classifier of transformers as images (n, C, H, W) -> logits (n, classes)."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(pixel_values=x).logits


def define(place: str, checkpoint: Path, classes: int | None, channels: int) -> Definition:
    """The network that a ``config.json`` describes, without weights.

    Args:
        place: the folder or file of the configuration; empty for the folder of the checkpoint.
        checkpoint: the file of the weights.
        classes: of the weights; the configuration's where it says so.
        channels: of the weights.
    Raises:
        InputError: no readable configuration, a kind that is not an image classifier, or a library that
            is not installed.
    """
    config_path = Path(place) if place else checkpoint.parent
    if config_path.is_dir():
        config_path = config_path / "config.json"
    spec = f"hf:{place}"
    config = _read(spec, config_path)
    if isinstance(config.get("architecture"), str):
        number = config.get("num_classes", classes)
        if type(number) is not int:
            raise InputError(f"--arch {spec}: {config_path} states no num_classes")
        definition = timm_library.define(config["architecture"], number, channels)
        stated = config.get("pretrained_cfg") or {}
        mean, std = stated.get("mean"), stated.get("std")
        if _numbers(mean) and _numbers(std):
            definition = replace(definition, normalisation=named(tuple(mean), tuple(std)))
        return definition
    if isinstance(config.get("model_type"), str):
        return _transformers(spec, config_path, config, channels)
    raise InputError(f"--arch {spec}: {config_path} names neither timm's architecture nor a model_type")


def _read(spec: str, path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ValueError("larger than a configuration")
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("not a JSON object")
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:120]
        raise InputError(
            f"--arch {spec}: {path} cannot be read ({reason}); hf:FOLDER takes the folder of a config.json"
        ) from None
    return config


def _transformers(spec: str, path: Path, config: dict[str, Any], channels: int) -> Definition:
    try:
        from transformers import AutoConfig, AutoModelForImageClassification
    except ImportError as error:
        raise InputError(
            f"--arch {spec}: {path} is of {config['model_type'][:40]}, which transformers defines; it is not "
            f"installed ({error}); pip install transformers"
        ) from None

    network = called(
        spec, lambda: AutoModelForImageClassification.from_config(AutoConfig.for_model(**config))
    )
    labels = getattr(network.config, "num_labels", 0)
    size = config.get("image_size")
    return Definition(
        LogitsOnly(network),
        int(labels),
        channels,
        image_size=size if type(size) is int else None,
        normalisation=_preprocessing(path.parent / "preprocessor_config.json", channels),
    )


def _preprocessing(path: Path, channels: int) -> Normalisation | None:
    """The normalisation that a processor's configuration states, where there is one."""
    if not path.is_file():
        return None
    stated = _read("hf:", path)
    mean, std = stated.get("image_mean"), stated.get("image_std")
    if (
        not stated.get("do_normalize", True)
        or not _numbers(mean)
        or not _numbers(std)
        or len(mean) != channels
    ):
        return None
    return named(tuple(mean), tuple(std))


def _numbers(values: Any) -> TypeGuard[Sequence[float]]:
    return isinstance(values, list | tuple) and bool(values) and all(type(v) in (int, float) for v in values)
