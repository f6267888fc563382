"""Why a checkpoint file is not read, and the limits that hold before anything is allocated for it."""

# Twice the largest network in use here (WRN-70-16, 1.1 GB in float32), so that a whole file fits in memory
# beside its copies.
MAX_FILE_BYTES = 2 * 2**30

# What describes the weights: the header of a safetensors file, the pickle of a torch file. ResNet-101 needs
# 0.1 MB; a parser's memory is up to a hundred times the text.
MAX_HEADER_BYTES = 2 * 2**20

# Files inside a torch archive, or tensors in a header.
MAX_TENSORS = 20_000

# Sides of one tensor; no weight here has more than 4.
MAX_SIDES = 8


class Refused(Exception):
    """What is wrong with a file, without the file's name: one clause that ends in how to mend it."""


def check_shape(name: str, shape: object, available: int) -> int:
    """The number of elements of ``shape``; refuses one that is impossible or more than ``available``."""
    if (
        not isinstance(shape, list | tuple)
        or len(shape) > MAX_SIDES
        or not all(type(side) is int and side >= 0 for side in shape)
    ):
        raise Refused(f"{name} has the impossible shape {str(shape)[:80]}")
    elements = 1
    for side in shape:
        elements *= side
    # A zero among the sides must not hide an absurd one.
    if max(elements, 0, *shape) > available:
        raise Refused(
            f"{name} claims the shape {str(list(shape))[:80]}, more than the file holds: "
            "truncated or damaged; copy or download it again"
        )
    return elements
