"""Networks as timm, torchvision and transformers define them, with their preprocessing, without
downloading anything.
"""

import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn

from robustbench_coded.errors import InputError
from robustbench_coded.installation import install_line
from robustbench_coded.models.detect import Recognised, channels_of, classes_of
from robustbench_coded.models.external_architectures import Assembled, fit
from robustbench_coded.models.in_memory import answering_logits
from robustbench_coded.models.normalisation import Normalisation, named
from robustbench_coded.models.refusal import Refused, shapes_in
from robustbench_coded.models.state_dict import StateDict


@dataclass(frozen=True)
class Definition:
    """A network without trained weights, as a library builds it.

    Attributes:
        network: on the CPU.
        classes: number of classes.
        channels: channels of the image.
        image_size: height and width in pixels; None where it takes any.
        from_pixels: whether it takes pixels in [0, 1], a normalisation of its own inside.
        normalisation: what a configuration beside the weights states; None where there is none.
        notes: what the library says about it, a sentence each.
    """

    network: nn.Module
    classes: int
    channels: int = 3
    image_size: int | None = None
    from_pixels: bool = False
    normalisation: Normalisation | None = None
    notes: tuple[str, ...] = ()


class WouldDownload(Exception):
    """Raised where a library turns to the network."""


@contextmanager
def nothing_downloaded() -> Iterator[None]:
    """Inside, torch's own downloads fail at once, and Hugging Face's client is set offline."""

    def refuse(*_: Any, **__: Any) -> None:
        raise WouldDownload

    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    with (
        mock.patch.dict("os.environ", offline),
        mock.patch("torch.hub.load_state_dict_from_url", refuse),
        mock.patch("torch.hub.download_url_to_file", refuse),
    ):
        yield


def called(spec: str, build: Callable[[], Any]) -> nn.Module:
    """Calls a library's constructor and restores torch's global random state.

    Raises:
        InputError: it fails, wants to download, or returns no network.
    """
    with torch.random.fork_rng(devices=[]), nothing_downloaded():
        torch.manual_seed(0)  # what the weights do not overwrite is the same in every worker
        try:
            network = build()
        except WouldDownload:
            raise InputError(f"--arch {spec}: its definition downloads weights, which is refused") from None
        except Exception as error:  # a library can fail in any way
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"--arch {spec}: it raised {type(error).__name__}: {reason}") from error
    if not isinstance(network, nn.Module):
        raise InputError(f"--arch {spec}: expected a torch.nn.Module, got a {type(network).__name__}")
    return network.float().cpu()


def timm_definition(name: str, classes: int, channels: int) -> Definition:
    """timm's network ``name`` without weights, for that many classes and channels.

    Raises:
        InputError: timm is not installed, has no such network, or cannot build it so.
    """
    try:
        import timm
    except ImportError as error:
        raise InputError(
            f"--arch timm:{name}: timm is not installed ({error}); {install_line('timm')}"
        ) from None
    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(), n=3) or ["timm.list_models() has them all"]
        raise InputError(f"--arch timm:{name}: timm has no such network; closest: {', '.join(near)}")
    spec = f"timm:{name}"
    network = called(
        spec, lambda: timm.create_model(name, pretrained=False, num_classes=classes, in_chans=channels)
    )
    # Older networks have their configuration as default_cfg.
    config = getattr(network, "pretrained_cfg", None) or getattr(network, "default_cfg", None) or {}
    fixed = config.get("fixed_input_size", False) or hasattr(
        getattr(network, "patch_embed", None), "img_size"
    )
    size = config.get("input_size", (0, 0, 0))[-1]
    notes: tuple[str, ...] = ()
    if normalisation := _stated(config.get("mean"), config.get("std"), channels):
        notes = (f"timm states the normalisation {normalisation.name} ({normalisation}) for its own weights",)
    return Definition(network, classes, channels, image_size=size if fixed and size else None, notes=notes)


def _read(spec: str, path: Path) -> dict[str, Any]:
    try:
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
        answering_logits(network),
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
    if not stated.get("do_normalize", True):
        return None
    return _stated(stated.get("image_mean"), stated.get("image_std"), channels)


def _stated(mean: Any, std: Any, channels: int) -> Normalisation | None:
    """The normalisation of two lists of numbers, one a channel; None where they are something else."""
    if not all(isinstance(values, list | tuple) and len(values) == channels for values in (mean, std)):
        return None
    return named(tuple(mean), tuple(std)) if {*map(type, (*mean, *std))} <= {int, float} else None


def fitted(spec: str, definition: Definition, weights: StateDict) -> Assembled:
    """The network of a definition with the weights of the file.

    Args:
        spec: as ``--arch`` takes it.
        weights: of the checkpoint.
    Raises:
        Refused: the weights are not those of its network.
    """
    how = fit(spec, definition.network, weights)
    notes = (f"built by {spec}, which was given", *definition.notes, *filter(None, (how.note,)))
    sizes = definition.classes, definition.channels, definition.image_size
    own = definition.from_pixels or how.holds_normalisation
    recognised = Recognised(spec, *sizes, notes)
    return Assembled(recognised, definition.network.eval(), own, definition.normalisation)


def timm(name: str, weights: StateDict, checkpoint: Path, metadata: dict[str, Any]) -> Assembled:
    """timm's network of that name."""
    spec = f"timm:{name}"
    return fitted(spec, timm_definition(name, *_sizes(spec, weights, metadata)), weights)


def torchvision(name: str, weights: StateDict, checkpoint: Path, metadata: dict[str, Any]) -> Assembled:
    """torchvision's network of that name, its last layer for the classes of the weights."""
    from torchvision import models

    spec = f"torchvision:{name}"
    classes, channels = _sizes(spec, weights, metadata)
    known = list(models.list_models(module=models))
    if name not in known:
        near = get_close_matches(name, known, n=3) or known[:3]
        raise InputError(f"--arch {spec}: torchvision has no such network; closest: {', '.join(near)}")
    if channels != 3:
        raise InputError(f"--arch {spec}: it takes 3 channels, the weights {channels}")
    builder = models.get_model_builder(name)
    options = {"init_weights": False} if "init_weights" in inspect.signature(builder).parameters else {}
    network = called(spec, lambda: models.get_model(name, weights=None, num_classes=classes, **options))
    size = getattr(network, "image_size", None)
    return fitted(spec, Definition(network, classes, image_size=size if type(size) is int else None), weights)


def hf(name: str, weights: StateDict, checkpoint: Path, metadata: dict[str, Any]) -> Assembled:
    """The network that a config.json describes, in the folder ``name``, or beside the weights if it is empty.

    Raises:
        InputError: no readable configuration, a kind that is not an image classifier, or a library that
            is not installed.
    """
    spec, path = f"hf:{name}", Path(name) if name else checkpoint.parent
    if path.is_dir():
        path /= "config.json"
    config = _read(spec, path)
    classes, channels = sizes(weights, metadata)
    if isinstance(config.get("architecture"), str):
        number = config.get("num_classes", classes)
        if type(number) is not int:
            raise InputError(f"--arch {spec}: {path} states no num_classes")
        definition = timm_definition(config["architecture"], number, channels)
        stated = config.get("pretrained_cfg") or {}
        normalisation = _stated(stated.get("mean"), stated.get("std"), channels)
        return fitted(spec, replace(definition, normalisation=normalisation), weights)
    if isinstance(config.get("model_type"), str):
        return fitted(spec, _transformers(spec, path, config, channels), weights)
    raise InputError(f"--arch {spec}: {path} names neither timm's architecture nor a model_type")


def sizes(weights: StateDict, metadata: dict[str, Any]) -> tuple[int | None, int]:
    """Classes, None where they show nowhere, and channels of the network with these weights."""
    shapes = shapes_in(weights.tensors)
    return metadata.get("classes") or classes_of(shapes), channels_of(shapes) or 3


def _sizes(spec: str, weights: StateDict, metadata: dict[str, Any]) -> tuple[int, int]:
    classes, channels = sizes(weights, metadata)
    if classes is None:
        raise Refused(f"--arch {spec}: the number of classes shows nowhere in its weights")
    return classes, channels
