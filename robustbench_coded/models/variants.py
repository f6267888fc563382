"""Variants of an architecture: networks of equal weights that differ in parts without any.

An architecture declares its parts in the registry (``Architecture.variants``), each with the forms that
it may have beside its default. A variant is written as the architecture's name with the parts that are
not as usual in brackets: ``resnet20[activation=silu,new_channels=behind]``. So a variant is an
``--arch`` like any other, in run.json, in reports and for workers. Importing this does not import torch.
"""

from collections.abc import Iterator, Mapping

from robustbench_coded.errors import InputError

# A part of every architecture: what happens to an image before its first layer. ``per-image`` subtracts each
# image's own mean and divides by its own deviation, as in arXiv 1812.02637; ``bgr`` puts its three channels
# in the order blue, green, red, as OpenCV reads images.
INPUT = "input"
PER_IMAGE = "per-image"
BGR = "bgr"


def split_variant(arch: str) -> tuple[str, dict[str, str]]:
    """A name and the parts in its brackets, in order.

    Raises:
        InputError: brackets that hold something else.
    """
    name, bracket, inside = arch.partition("[")
    if not bracket:
        return arch, {}
    pairs = [pair.partition("=") for pair in inside.removesuffix("]").split(",")]
    parts = {part.strip(): form.strip() for part, _, form in pairs}
    if not inside.endswith("]") or len(parts) != len(pairs) or not all(p and f for p, f in parts.items()):
        raise InputError(f"architecture {arch!r}: expected NAME[part=form,part=form]")
    if parts.get(INPUT, BGR) not in (PER_IMAGE, BGR):
        raise InputError(f"architecture {arch!r}: expected {INPUT}={PER_IMAGE} or {INPUT}={BGR}")
    return name, parts


def join_variant(name: str, parts: Mapping[str, str | int]) -> str:
    """The text of a variant; the name alone where every part is as usual."""
    return f"{name}[{','.join(f'{part}={form}' for part, form in parts.items())}]" if parts else name


def changed(arch: str, part: str, form: str | int) -> str:
    """``arch`` with one part in that form."""
    name, parts = split_variant(arch)
    return join_variant(name, {**parts, part: str(form)})


def unchanged(arch: str, part: str) -> str:
    """``arch`` with one part as usual."""
    name, parts = split_variant(arch)
    return join_variant(name, {other: form for other, form in parts.items() if other != part})


def changes(arch: str, variants: Mapping[str, tuple[str | int, ...]]) -> Iterator[tuple[str, str]]:
    """(part, variant of ``arch`` that differs from it in that part alone), for every part it leaves open.

    Parts that are named in brackets were chosen, and are not varied.
    """
    _, named = split_variant(arch)
    for part, forms in variants.items():
        if part not in named:
            for form in forms:
                yield part, changed(arch, part, form)
