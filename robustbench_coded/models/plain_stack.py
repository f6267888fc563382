"""Convolutions and linear layers in a row, under whatever names, as an ``nn.Sequential`` numbers them.

Small networks are often classes of their own (``conv1``, ``conv2``, ``fc1``, or ``features.0``): their files
have the layers in the order in which they were made, which is nearly always the order in which they act. What
stands between them has no weights: an activation, and behind convolutions perhaps pooling.
``sequential_names`` infers which from the size of the first linear layer, and images confirm it.
"""

from dataclasses import replace

from torch import Tensor

from robustbench_coded.models.state_dict import StateDict

# Modules that are left out in the numbers, by what stands before and after: see ``sequential_names.BETWEEN``.
UNKNOWN = {("", "c"): 0, ("", "l"): 1, ("c", "c"): 4, ("c", "l"): 5, ("l", "l"): 1}
NUMBERED = {("c", "c"): 3, ("l", "l"): 2}  # at most so many, where the names are numbers that tell

KINDS = {4: "c", 2: "l"}  # by the dimensions of the weight


def as_stack(weights: StateDict) -> StateDict | None:
    """The weights under the numbers of a stack; None where they are no layers in a row."""
    scopes = list(dict.fromkeys(name.rpartition(".")[0] for name in weights.tensors))
    if any(part.isdecimal() for scope in scopes for part in scope.split(".")[:-1]):
        return None  # blocks, which mostly have shortcuts around them
    tensors: dict[str, Tensor] = {}
    kinds = ""
    before, width, number, last = "", None, 0, ""
    for scope in scopes:
        own = {
            name.rpartition(".")[2]: tensor
            for name, tensor in weights.tensors.items()
            if name.rpartition(".")[0] == scope
        }
        shape = tuple(own["weight"].shape) if "weight" in own else ()
        if "running_mean" in own:
            if not before or shape != (width,):
                return None
            kind = "b"
            number += _before_batch_norm(last, scope)
        elif len(shape) in KINDS and own.keys() <= {"weight", "bias"}:
            kind = KINDS[len(shape)]
            follows = width is None or shape[1] == width
            flattened = before == "c" and kind == "l" and width is not None and shape[1] % width == 0
            if not (follows or flattened) or (before == "l" and kind == "c"):
                return None
            number += _between(before, kind, last, scope)
            before, width = kind, shape[0]
        else:
            return None
        kinds += kind
        tensors |= {f"{number}.{part}": tensor for part, tensor in own.items()}
        number, last = number + 1, scope
    # Where only some convolutions have a batch-norm, it is rather another network with some missing.
    if before != "l" or kinds.count("cb") not in (0, kinds.count("c")):
        return None
    note = "its layers are read as a stack in the order of the file, with an activation between any two"
    return replace(weights, tensors=tensors, notes=(*weights.notes, note))


def _before_batch_norm(last: str, scope: str) -> int:
    """How many modules without weights stand before a batch-norm, as far as numbers tell."""
    (parent, _, number), (other, _, own) = last.rpartition("."), scope.rpartition(".")
    between = int(own) - int(number) - 1 if parent == other and own.isdecimal() and number.isdecimal() else 0
    return between if 0 <= between <= 2 else 0


def _between(before: str, kind: str, last: str, scope: str) -> int:
    """How many modules without weights stand between two layers, or the number that means unknown."""
    parents = [name.rpartition(".")[0] for name in (last, scope)]
    numbers = [name.rpartition(".")[2] for name in (last, scope)]
    if (before, kind) in NUMBERED and parents[0] == parents[1] and all(one.isdecimal() for one in numbers):
        between = int(numbers[1]) - int(numbers[0]) - 1
        if 0 <= between <= NUMBERED[before, kind]:
            return between
    return UNKNOWN[before, kind]
