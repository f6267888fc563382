"""Loads the weights of a file into a network defined elsewhere, whatever prefixes their names have."""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from robustbench_coded.models.difference import Difference, compare
from robustbench_coded.models.refusal import Refused
from robustbench_coded.models.state_dict import NORMALISATION_BUFFERS, UNUSED, StateDict

NORMALISATION_NAMES = {name for pair in NORMALISATION_BUFFERS for name in pair}


@dataclass(frozen=True)
class Fit:
    """How a file's names became a network's.

    Attributes:
        holds_normalisation: whether the network holds the normalisation that the file stores.
        note: what was taken off or put before the names, a sentence; empty where nothing was.
    """

    holds_normalisation: bool
    note: str


def fit(spec: str, network: nn.Module, weights: StateDict) -> Fit:
    """Loads the weights into ``network``, under the names of the file or others that wrappers explain.

    Tried in turn: the names as stored, with ever more of the wrappers' prefixes taken off, each also with the
    name of one of the network's children before it, and through the library's own converter of old names.
    A normalisation that the network defines as constant buffers may be absent from the file.

    Args:
        spec: what names the network, for messages.
        network: on the CPU, in float32.
        weights: of the checkpoint.
    Raises:
        Refused: nothing fits; the closest form is named with its first difference.
    """
    own = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    constants = {name for name, _ in network.named_buffers() if _last(name) in NORMALISATION_NAMES}
    differences = []
    for tensors, note in _forms(network, weights):
        present = {name: tensor for name, tensor in tensors.items() if name in own or not _needless(name)}
        expected = {name: shape for name, shape in own.items() if name in present or name not in constants}
        shapes = {name: tuple(tensor.shape) for name, tensor in present.items()}
        difference = compare(spec, shapes, expected)
        if not difference.count:
            # strict=False for counters of batches and constants: all other names were compared.
            network.load_state_dict(present, strict=False)
            stored = any(_last(name) in NORMALISATION_NAMES for name in tensors)
            held = any(_last(name) in NORMALISATION_NAMES for name in present)
            return Fit(held or (bool(constants) and not stored), note)
        differences.append(difference)
    raise Refused(f"its weights are not those of --arch {min(differences, key=_share)}")


def _share(difference: Difference) -> float:
    return difference.share


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _needless(name: str) -> bool:
    return name.startswith(UNUSED) or _last(name) in NORMALISATION_NAMES


def _forms(network: nn.Module, weights: StateDict) -> Iterator[tuple[dict[str, Tensor], str]]:
    """Names and tensors as they may be meant, each with what was done to the names."""
    children = [name for name, child in network.named_children() if child.state_dict()]
    for count in range(len(weights.prefixes) + 1):
        prefix = "".join(weights.prefixes[:count])
        kept = "".join(weights.prefixes[count:])
        stripped = {name.removeprefix(prefix): tensor for name, tensor in weights.original.items()}
        # A normalisation may stand beside the prefixed names, where no prefix is shared by all.
        inner = {kept + name: tensor for name, tensor in weights.tensors.items()}
        off = f"{prefix!r} taken off every name" if prefix else ""
        for tensors in (stripped, inner):
            yield tensors, off
            for child in children[:4]:
                before = {f"{child}.{name}": tensor for name, tensor in tensors.items()}
                yield before, " and ".join(filter(None, (off, f"{child + '.'!r} put before it")))
    for path, module in [("", network), *((f"{name}.", network.get_submodule(name)) for name in children)]:
        convert = getattr(sys.modules[type(module).__module__], "checkpoint_filter_fn", None)
        if convert is not None:
            converted = _converted(convert, weights.tensors, module)
            if converted is not None:
                named = {path + name: tensor for name, tensor in converted.items()}
                yield named, "old names converted by the library"


def _converted(
    convert: Callable[..., Mapping[str, Tensor]], tensors: Mapping[str, Tensor], module: nn.Module
) -> Mapping[str, Tensor] | None:
    """What a library's converter of old checkpoints makes of them; None where it does not take them."""
    try:
        return convert(dict(tensors), module)
    except Exception:  # made for one kind of file, it can fail on others in any way
        return None
