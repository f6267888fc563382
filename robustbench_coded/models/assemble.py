"""From the weights of a file and perhaps a name to a network with these weights in it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from robustbench_coded.errors import InputError
from robustbench_coded.models.architectures.inputs import OtherInput
from robustbench_coded.models.build import construct
from robustbench_coded.models.detect import Recognised, recognise
from robustbench_coded.models.difference import COUNTER
from robustbench_coded.models.fused import give_places
from robustbench_coded.models.libraries import timm_names
from robustbench_coded.models.libraries.load import is_library
from robustbench_coded.models.libraries.load import load as load_from_library
from robustbench_coded.models.libraries.robustbench_names import own_definitions
from robustbench_coded.models.normalisation import Normalisation
from robustbench_coded.models.plugin_architecture import (
    channels_in,
    classes_answered,
    classes_in,
    load_plugin,
)
from robustbench_coded.models.refusal import Refused
from robustbench_coded.models.state_dict import StateDict
from robustbench_coded.models.unwrapping import Reading, among_networks, one_of, readings
from robustbench_coded.models.variants import INPUT, split_variant

SIDES = (8, 28, 32, 64, 96, 224)  # of images, by which a user's network says how many classes it has


@dataclass(frozen=True)
class Assembled:
    """A network with the weights of a file.

    Attributes:
        found: the architecture.
        network: in float32, on the CPU.
        weights: the file's, as they were read in the end.
        normalises_itself: whether a normalisation is inside the network.
        stated: the normalisation that a configuration beside the weights states.
    """

    found: Recognised
    network: nn.Module
    weights: StateDict
    normalises_itself: bool = False
    stated: Normalisation | None = None


def assemble(arch: str | None, weights: StateDict, path: Path, metadata: dict[str, Any]) -> Assembled:
    """Finds the architecture and puts the weights into it.

    Args:
        arch: a name of ``csrobust list models``, ``LIBRARY:NAME`` or ``package.module:function``; None to
            recognise it.
        weights: of the checkpoint.
        path: its file.
        metadata: what this project stored beside the weights.
    Raises:
        Refused: no architecture has these weights, or the named one has not.
        InputError: ``arch`` is not known, or cannot be built here.
    """
    if arch is not None and arch.startswith("robustbench:"):
        return _noted(_robustbench(arch, weights, path, metadata))
    if arch is not None and is_library(arch):
        return _noted(_library(arch, weights, path, metadata))
    if arch is not None and ":" in arch:
        return _noted(_plugin(arch, weights, metadata))
    try:
        return _noted(_known(arch, weights, metadata))
    except Refused as refused:
        name = timm_names.name_for(_shapes(weights)) if arch is None else None
        if name is None and arch is None and (path.parent / "config.json").is_file():
            raise Refused(f"{refused}, or --arch hf: for the network that config.json describes") from None
        if name is None:
            raise
    try:
        return _noted(_library(f"timm:{name}", weights, path, metadata))
    except InputError as error:
        raise Refused(f"its weights have the names of timm's {name}; {error}") from None


def _known(arch: str | None, weights: StateDict, metadata: dict[str, Any]) -> Assembled:
    """A network of the registry."""
    found, weights = _recognised(arch, weights, metadata.get("arch"))
    integers = [name for name, tensor in weights.tensors.items() if not tensor.is_floating_point()]
    quantised = [name for name in integers if not name.endswith(COUNTER)]
    if quantised:
        raise Refused(f"weight {quantised[0]} is an integer, perhaps quantised; float weights are read")
    network = construct(found.arch, found.classes, found.channels, found.image_size)
    give_places(network, weights.tensors)
    # strict=False for counters of batches alone: recognise() has compared all other names.
    network.load_state_dict(weights.tensors, strict=False, assign=True)
    if form := split_variant(found.arch)[1].get(INPUT):
        network = OtherInput(network, form)
    return Assembled(found, network, weights)


def _library(arch: str, weights: StateDict, path: Path, metadata: dict[str, Any]) -> Assembled:
    """A network that a library defines."""
    found, network, normalises_itself, stated = load_from_library(arch, weights, path, metadata)
    return Assembled(found, network, weights, normalises_itself, stated)


def _robustbench(arch: str, weights: StateDict, path: Path, metadata: dict[str, Any]) -> Assembled:
    """A definition of RobustBench: one of our own architectures where it is one, else its package's."""
    fitting: list[Assembled] = []
    refused: list[Refused | InputError] = []
    for named in own_definitions(arch.partition(":")[2], classes_in(weights.tensors)):
        try:
            if is_library(named.arch):
                assembled = _library(named.arch, weights, path, {})
            else:
                assembled = _known(named.arch, weights, {})
        except (Refused, InputError) as error:
            refused.append(error)
            continue
        note = f"robustbench:{named.path} is {named.arch} with the normalisation {named.normalisation}"
        found = replace(assembled.found, notes=(*assembled.found.notes, note))
        fitting.append(replace(assembled, found=found, stated=named.normalisation))
    if len(fitting) > 1:
        notes = " and ".join(assembled.found.notes[-1] for assembled in fitting)
        raise InputError(f"--arch {arch}: {notes}; name one of them with its data set and threat model")
    if fitting:
        return fitting[0]
    try:
        return _library(arch, weights, path, metadata)
    except InputError as error:
        raise (refused[0] if refused else error) from None


def _noted(assembled: Assembled) -> Assembled:
    """With what the reading of the file chose or left out among the notes."""
    notes = (*assembled.found.notes, *assembled.weights.notes)
    return replace(assembled, found=replace(assembled.found, notes=notes))


def _recognised(arch: str | None, weights: StateDict, stored: Any) -> tuple[Recognised, StateDict]:
    """One of the registry: as the user says, else as the file says if that fits, else by the weights."""
    if arch is None and stored is not None:
        try:
            found = recognise(_shapes(weights), stored)
            note = f"{found.arch} is what the file's metadata say, and its weights fit"
            return replace(found, notes=(note,)), weights
        except (InputError, Refused):
            found, weights = _recognised(None, weights, None)
            if found.arch != stored:
                note = f"its metadata say {str(stored)[:80]}, which its weights are not"
                found = replace(found, notes=(*found.notes, note))
            return found, weights
    try:
        return recognise(_shapes(weights), arch), weights
    except Refused as refused:
        why, fitting = refused, list[tuple[Reading, Recognised]]()
        for reading in readings(weights):
            try:
                fitting.append((reading, recognise(_shapes(reading.weights), arch)))
            except Refused as error:
                if reading.whole:
                    why = error  # without a prefix of all names the nearest architecture shows
        if not fitting:
            raise why from None
        chosen = one_of([reading for reading, _ in fitting])
        weights = among_networks(chosen, [reading for reading, _ in fitting])
        return next(found for reading, found in fitting if reading is chosen), weights


def _shapes(weights: StateDict) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in weights.tensors.items()}


def _plugin(arch: str, weights: StateDict, metadata: dict[str, Any]) -> Assembled:
    network, normalises_itself = load_plugin(arch, weights)
    channels = metadata["image_shape"][0] if "image_shape" in metadata else channels_in(weights.tensors)
    shapes = [metadata["image_shape"]] if "image_shape" in metadata else [[channels, s, s] for s in SIDES]
    answered = filter(None, (classes_answered(network, shape) for shape in shapes))
    classes = next(answered, None) or metadata.get("classes") or classes_in(weights.tensors)
    if classes is None or classes < 2:
        raise Refused(
            f"--arch {arch}: its network answers no images of {SIDES[0]} to {SIDES[-1]} pixels a side with "
            "logits [n, classes], of two classes or more"
        )
    found = Recognised(arch, classes, channels, None, (f"built by {arch}",))
    return Assembled(found, network, weights, normalises_itself)
