"""Architectures from outside: functions of the user's own, and those of libraries that are plugged in, with a
file's weights fitted into them.
"""

import copy
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attacks.adapters.user_modules import file_named, object_named, own_folders_first
from robustbench_coded.errors import InputError, described, where_raised
from robustbench_coded.extensions import points_of
from robustbench_coded.models import detect, refusal, state_dict
from robustbench_coded.models.in_memory import answered, answering_logits, networks_in
from robustbench_coded.models.normalisation import Normalisation


def beside(spec: str) -> tuple[Path, ...]:
    """The folder of the file that a spec names, for `own_folders_first`; nothing for a module."""
    file = file_of(spec)
    return () if file is None else (file.parent,)


def file_of(spec: str) -> Path | None:
    """The file that ``some/where/file.py:function`` names, whole; None for ``package.module:function``."""
    return file_named(spec.rpartition(":")[0])


def shown_name(spec: str) -> str:
    """Name of code without a name of its own: ``module.function``."""
    place, _, function = spec.rpartition(":")
    file = file_of(spec)
    return f"{place.rpartition('.')[2] if file is None else file.stem}.{function}"


def import_function(spec: str, option: str) -> Callable[..., Any]:
    """See ``user_modules.object_named``; raises InputError, which begins with the option and ``spec``."""
    try:
        return object_named(spec)
    except ValueError as error:
        raise InputError(f"{option} {spec}: {error}{where_raised(error.__cause__)}") from error


NORMALISATION_NAMES = {name for pair in state_dict.NORMALISATION_BUFFERS for name in pair}
# Swin's, computed from the size of a window; timm and transformers no longer store it.
COMPUTED = "relative_position_index"


@dataclass(frozen=True)
class Fit:
    """How a file's names became a network's.

    Attributes:
        holds_normalisation: whether the network holds the normalisation that the file stores.
        note: what was taken off or put before the names, a sentence; empty where nothing was.
    """

    holds_normalisation: bool
    note: str


def fit(spec: str, network: nn.Module, weights: state_dict.StateDict) -> Fit:
    """Loads the weights into ``network``, under the names of the file or others that wrappers explain.

    Tried in turn: the names as stored, with ever more of the wrappers' prefixes taken off, each also with the
    name of one of the network's children before it, and through the library's own converter of old names.
    A normalisation and indices that the network defines as constant buffers may be absent from the file.

    Args:
        spec: what names the network, for messages.
        network: on the CPU, in float32.
        weights: of the checkpoint.
    Raises:
        Refused: nothing fits; the closest form is named with its first difference.
    """
    own = refusal.shapes_in(network.state_dict())
    constants = {name for name, _ in network.named_buffers() if _last(name) in NORMALISATION_NAMES}
    differences = []
    for tensors, note in _forms(network, weights):
        present = {name: tensor for name, tensor in tensors.items() if name in own or not _needless(name)}
        # As torch does: before its version 0.4 a single number had a dimension.
        present |= {name: x[0] for name, x in present.items() if own.get(name) == () and x.shape == (1,)}
        expected = {
            name: shape
            for name, shape in own.items()
            if name in present or (name not in constants and _last(name) != COMPUTED)
        }
        difference = refusal.compare(spec, refusal.shapes_in(present), expected)
        if not difference.count:
            # strict=False for counters of batches and constants: all other names were compared.
            network.load_state_dict(present, strict=False)
            stored = any(_last(name) in NORMALISATION_NAMES for name in tensors)
            held = any(_last(name) in NORMALISATION_NAMES for name in present)
            return Fit(held or (bool(constants) and not stored), note)
        differences.append(difference)
    raise refusal.Refused(
        f"its weights are not those of --arch {min(differences, key=lambda difference: difference.share)}"
    )


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _needless(name: str) -> bool:
    return name.startswith(state_dict.UNUSED) or _last(name) in NORMALISATION_NAMES


def _forms(network: nn.Module, weights: state_dict.StateDict) -> Iterator[tuple[dict[str, Tensor], str]]:
    """Names and tensors as they may be meant, each with what was done to the names."""
    children = [name for name, child in network.named_children() if child.state_dict()]
    for count in range(len(weights.prefixes) + 1):
        prefix = "".join(weights.prefixes[:count])
        outer = "".join(weights.prefixes[count:])
        stripped = {name.removeprefix(prefix): tensor for name, tensor in weights.original.items()}
        # A normalisation may stand beside the prefixed names, where no prefix is shared by all.
        inner = {outer + name: tensor for name, tensor in weights.tensors.items()}
        off = f"{prefix!r} taken off every name" if prefix else ""
        for tensors in (stripped, inner):
            for child in ("", *(f"{name}." for name in children[:4])):
                said = filter(None, (off, child and f"{child!r} put before it"))
                yield {child + name: tensor for name, tensor in tensors.items()}, " and ".join(said)
    for path, module in [("", network), *((f"{name}.", network.get_submodule(name)) for name in children)]:
        convert = getattr(sys.modules[type(module).__module__], "checkpoint_filter_fn", None)
        with suppress(Exception):  # made for one kind of file, it can fail on others in any way
            converted = convert(dict(weights.tensors), module) if convert is not None else {}
            yield {path + name: x for name, x in converted.items()}, "old names converted by the library"
    if (mapped := _as_its_class_loads(network, weights.original)) is not None:
        yield dict(mapped), "names as its class maps them"


def _as_its_class_loads(network: nn.Module, stored: Mapping[str, Tensor]) -> Mapping[str, Tensor] | None:
    """What a class of transformers makes of a file's names when it loads them; None for other classes.

    From its version 5 on the names in a file are not those in memory. A weight that the file lacks would be
    drawn at random, and one that has no place passed over: neither counts as loaded.
    """
    load, config = getattr(type(network), "from_pretrained", None), getattr(network, "config", None)
    if load is None or config is None:
        return None
    try:
        with torch.random.fork_rng(devices=[]):
            loaded, info = load(None, config=config, state_dict=dict(stored), output_loading_info=True)
    except Exception:  # another library's class of that form, or not its weights
        return None
    unloaded = [info.get(kind) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")]
    return None if any(unloaded) else loaded.state_dict()


def classes_answered(network: nn.Module, image_shape: Sequence[int]) -> int:
    """Number of classes that a network answers images of that shape [C, H, W] with.

    A copy is asked: some networks fit themselves to the images they are asked about, as Swin its windows.

    Raises:
        InputError: it does not, and why (`in_memory.answered`).
    """
    with suppress(Exception):  # of modules from outside, not all can be copied
        network = copy.deepcopy(network)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        return answered(network.eval(), torch.zeros(2, *image_shape)).shape[1]


def _call(function: Callable[..., Any], tensors: Mapping[str, Tensor]) -> Any:
    classes = detect.classes_of(refusal.shapes_in(tensors))
    parameters = inspect.signature(function).parameters
    keyword = next((name for name in ("classes", "num_classes") if name in parameters), None)
    if classes is not None and keyword is not None:
        return function(**{keyword: classes})
    if classes is not None and any(p.kind == p.VAR_KEYWORD for p in parameters.values()):
        with suppress(TypeError):  # timm's and torchvision's hand it on; others may not know it
            return function(num_classes=classes)
    required = [p for p in parameters.values() if p.default is p.empty and p.kind <= p.POSITIONAL_OR_KEYWORD]
    return function(classes) if required else function()


def is_library(arch: str) -> bool:
    """True if ``arch`` is ``LIBRARY:NAME`` for a library that is known here."""
    return ":" in arch and arch.partition(":")[0] in points_of("libraries")


@dataclass(frozen=True)
class Assembled:
    """A network with the weights of a file.

    Attributes:
        recognised: the architecture.
        network: in float32, on the CPU.
        normalises_itself: whether a normalisation is inside the network.
        stated: the normalisation that a configuration beside the weights states.
    """

    recognised: detect.Recognised
    network: nn.Module
    normalises_itself: bool = False
    stated: Normalisation | None = None


SIDES = (8, 28, 32, 64, 96, 224)  # of images, by which a user's network says how many classes it has


def own_network(
    arch: str, weights: state_dict.StateDict, metadata: dict[str, Any], image_shape: Sequence[int] | None
) -> Assembled:
    """A network of the user's own, which says itself which images it takes: those of the data come first.

    The function is called with the number of classes where it takes one (as ``classes``, ``num_classes``,
    also among ``**kwargs``, or its first required argument), else without arguments. Torch's global random
    state is put back afterwards. The network answers with logits (`in_memory.logits_of`).

    Args:
        arch: ``package.module:function`` or ``some/where/file.py:function``.
        weights: of the checkpoint.
        metadata: what this project stored beside them.
        image_shape: of the data, [C, H, W].
    Raises:
        InputError: the function cannot be imported, fails, or returns no network.
        Refused: the weights are not those of its network, or it answers no such images.
    """
    function = import_function(arch, "--arch")
    with torch.random.fork_rng(devices=[]), own_folders_first(*beside(arch)):
        torch.manual_seed(0)  # what the weights do not overwrite is the same in every worker
        try:
            network = _call(function, weights.tensors)
        except Exception as error:  # the user's function can fail in any way
            raise InputError(f"--arch {arch}: it raised {described(error)}") from error
    if not isinstance(network, nn.Module):
        raise InputError(f"--arch {arch}: expected a torch.nn.Module, it returned a {type(network).__name__}")
    network = answering_logits(network.float().cpu())
    for held in networks_in(network):  # in lists, for instance, where its own eval() does not reach
        held.eval()
    normalises_itself = fit(arch, network, weights).holds_normalisation
    shapes = refusal.shapes_in(weights.tensors)
    known = detect.channels_of(shapes)
    given = [list(image_shape)] if image_shape else []
    colours = dict.fromkeys([*(shape[0] for shape in given), *([known] if known else (3, 1))])
    guesses = [[channels, side, side] for channels in colours for side in SIDES]
    tried = [*given, *([metadata["image_shape"]] if "image_shape" in metadata else guesses)]
    failures: list[InputError] = []
    for shape in tried:
        try:
            classes = classes_answered(network, shape)
            break
        except InputError as error:
            failures.append(error)
    else:
        # An answer that is no logits says more than a failure on images that may be of another size.
        why = min(failures, key=lambda error: error.__cause__ is not None)
        if image_shape or why.__cause__ is None:
            raise refusal.Refused(f"--arch {arch}: {why}")
        shape, classes = (
            tried[0],
            metadata.get("classes") or detect.classes_of(shapes) or 0,
        )
    if given and shape != given[0] and shape[0] == given[0][0]:
        mend = f"it answers images {list(shape)}, choose such data with --data"
        raise refusal.Refused(f"--arch {arch}: {failures[0]}; {mend}")
    if classes == 1:
        raise refusal.Refused(f"--arch {arch}: it answers one number for each image; {refusal.ONE_LOGIT}")
    if classes < 2:
        raise refusal.Refused(
            f"--arch {arch}: its network answers no images of {SIDES[0]} to {SIDES[-1]} pixels a side with "
            "logits [n, classes], of two classes or more; return a module that does"
        )
    recognised = detect.Recognised(arch, classes, shape[0], None, (f"built by {arch}",))
    return Assembled(recognised, network, normalises_itself)
