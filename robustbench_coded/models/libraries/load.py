"""From ``LIBRARY:NAME`` and the weights of a file to a network with these weights in it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robustbench_coded.errors import InputError
from robustbench_coded.models.detect import Recognised
from robustbench_coded.models.fitting import Fit, fit
from robustbench_coded.models.libraries.definition import Definition
from robustbench_coded.models.normalisation import Normalisation
from robustbench_coded.models.plugin_architecture import channels_in, classes_in
from robustbench_coded.models.refusal import Refused
from robustbench_coded.models.state_dict import StateDict

LIBRARIES = ("timm", "torchvision", "robustbench", "hf")

# Two definitions of one name are the same function where they agree on one image so closely.
SAME_LOGITS = 1e-6


def is_library(arch: str) -> bool:
    """Whether ``arch`` is ``LIBRARY:NAME`` for a library that is known here."""
    return arch.partition(":")[0] in LIBRARIES and ":" in arch


def load(
    arch: str, weights: StateDict, checkpoint: Path, metadata: dict[str, Any]
) -> tuple[Recognised, nn.Module, bool, Normalisation | None]:
    """The library's network with the weights of the file.

    Args:
        arch: ``timm:NAME``, ``torchvision:NAME``, ``robustbench:NAME`` or ``hf:[FOLDER]``.
        weights: of the checkpoint.
        checkpoint: its file.
        metadata: what this project stored beside the weights.
    Returns:
        What was recognised; the network, in float32; whether it normalises by itself; and the normalisation
        that the library states beside a network that does not.
    Raises:
        InputError: the library is not installed, or has no such network.
        Refused: the weights are not those of its network.
    """
    classes = metadata.get("classes") or classes_in(weights.tensors)
    fits: list[tuple[Definition, Fit, str]] = []
    refused: list[Refused | InputError] = []
    for spec, definition in _definitions(arch, classes, channels_in(weights.tensors), checkpoint, refused):
        try:
            fits.append((definition, fit(spec, definition.network, weights), spec))
        except Refused as error:
            refused.append(error)
    if not fits:
        raise refused[0]
    definition, how, spec = fits[0]
    network = definition.network.eval()
    for other, _, other_spec in fits[1:]:
        if not _same(network, other.network.eval(), definition):
            raise InputError(
                f"--arch {arch}: {spec} and {other_spec} both fit and answer differently; name one"
            )
    notes = (f"built by {spec}, which was given", *definition.notes, *filter(None, (how.note,)))
    found = Recognised(spec, definition.classes, definition.channels, definition.image_size, notes)
    return found, network, definition.from_pixels or how.holds_normalisation, definition.normalisation


def _definitions(
    arch: str,
    classes: int | None,
    channels: int,
    checkpoint: Path,
    refused: list[Refused | InputError],
) -> Iterator[tuple[str, Definition]]:
    library, _, name = arch.partition(":")
    if library == "hf":
        from robustbench_coded.models.libraries import huggingface

        yield arch, huggingface.define(name, checkpoint, classes, channels)
        return
    if not name:
        raise InputError(f"--arch {arch}: expected {library}:NAME")
    if library == "robustbench":
        from robustbench_coded.models.libraries import robustbench_library

        for path, constructor in robustbench_library.entries(name, classes):
            try:
                yield f"robustbench:{path}", robustbench_library.define(path, constructor)
            except InputError as error:
                refused.append(error)
    elif classes is None:
        raise Refused(f"--arch {arch}: the number of classes shows nowhere in its weights")
    elif library == "timm":
        from robustbench_coded.models.libraries import timm_library

        yield arch, timm_library.define(name, classes, channels)
    else:
        from robustbench_coded.models.libraries import torchvision_library

        yield arch, torchvision_library.define(name, classes, channels)


def _same(one: nn.Module, other: nn.Module, definition: Definition) -> bool:
    """Whether two networks of the same weights answer one image alike."""
    side = definition.image_size or 224
    image = torch.rand(1, definition.channels, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return bool((one(image) - other(image)).abs().max() <= SAME_LOGITS)
