"""Plain stacks of layers, from state dicts such as ``0.weight, 2.weight, 5.weight``, and their names.

Certified training and much code for MNIST build them as ``nn.Sequential``. The numbers say how many modules
without weights stand between two layers: one is an activation, two before a linear layer an activation and
the flattening, and so on. Strides and paddings leave no trace but the number of inputs of the first linear
layer; where several give that number, the usual ones come first and the others are variants. Imports no
torch.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from importlib import resources
from itertools import islice, product
from math import isqrt

from robustbench_coded.models import refusal, registry

# By channels, the sizes of images that are tried: MNIST and digits; CIFAR, SVHN, Tiny ImageNet and ImageNet.
SIZES = {1: (28, 32, 8), 3: (32, 28, 64, 224)}
UNUSUAL_SIZES = {1: {8: 1, 32: 6}, 3: {64: 1, 224: 2, 28: 6}}
MAX_LAYERS = 40
MAX_LAYOUTS = 12
MAX_TRIED = 200_000

POOLINGS = ("max", "mean")  # the usual one comes first

# What stands between two layers with weights: convolution (c) or linear (l), by the number of modules.
BETWEEN = {
    ("c", "c"): ("", "a", "am", "ami"),
    ("c", "l"): (None, "f", "af", "amf", "amfi"),
    ("l", "l"): ("", "a", "ai"),
}
TOKEN = re.compile(
    r"c(?P<planes>\d{1,4})k(?P<kernel>\d{1,2})(?P<bare>n?)|(?P<linear>l)(?P<width>\d{0,6})(?P<bare_linear>n?)"
    r"|f(?P<values>\d{1,7})|[abmi]",
    re.ASCII,
)


def sequential_name(shapes: refusal.Shapes) -> str | None:
    """``sequential-SIZE-...`` as numbers and shapes have it; None where they are of another family.

    The tokens are ``c16k4`` (convolution to 16 channels, kernel 4), ``l100`` (linear, the last one ``l``;
    ``n`` behind either means without biases), ``b`` (batch-norm), ``a`` (activation), ``m`` (2x2 pooling),
    ``f1568`` (flattening to so many values) and ``i`` (nothing in eval mode, as dropout).
    """
    layers = _layers(shapes)
    if layers is None:
        return None
    tokens, reached, before = [], 0, ""
    for number, kind, shape in layers:
        fillers = _fillers(before, kind, number - reached)
        if fillers is None:
            return None
        tokens += [f"f{shape[1]}" if filler == "f" else filler for filler in fillers]
        bare = "" if f"{number}.bias" in shapes else "n"
        width = shape[0] if number != layers[-1][0] else ""  # the number of classes is no part of a name
        tokens.append({"c": f"c{shape[0]}k{shape[-1]}{bare}", "l": f"l{width}{bare}", "b": "b"}[kind])
        reached = number + 1
        before = kind if kind != "b" else before
    _, size = _input(layers, tokens)
    return f"sequential-{size}-{'-'.join(tokens)}" if size else None


@cache
def published_stacks() -> Mapping[str, Mapping[str, str]]:
    """By name the stacks of published definitions: ``definition``, and ``layers``, their names, if any."""
    file = resources.files("robustbench_coded.models").joinpath("published_stacks.toml")
    return tomllib.loads(file.read_text("utf-8"))


def numbered(shapes: refusal.Shapes, stated: str | None = None) -> dict[str, str] | None:
    """The names of a stack for the weights of named layers; None where they tell no stack.

    They do where the user states one, where a published definition has these layers, or where all are
    linear: then an activation stands between any two. What stands between other layers is not guessed.
    """
    scopes = list(dict.fromkeys(name.rpartition(".")[0] for name in shapes))
    layers = [scope.rpartition(".")[2] for scope in scopes]
    tried = [name for name, known in published_stacks().items() if known.get("layers", "").split() == layers]
    affine = all(name.endswith(("weight", "bias")) for name in shapes)
    if affine and all(len(shapes.get(f"{scope}.weight".strip("."), ())) == 2 for scope in scopes):
        tried.append("")
    if stated is not None and tokens_of(name := stated.partition("[")[0]):
        tried = [name]
    for stack in tried:
        tokens = stack.split("-")[2:] or ["f", *["l", "a"] * len(scopes)]
        numbers = [str(number) for number, token in enumerate(tokens) if token[0] in "clb"][: len(scopes)]
        if len(numbers) < len(scopes):
            continue
        number_of = dict(zip(scopes, numbers, strict=True))
        names = {name: f"{number_of[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}" for name in shapes}
        arch = sequential_name({names[name]: shape for name, shape in shapes.items()})
        if arch is not None and stack in ("", arch):
            return names
    return None


def tokens_of(name: str) -> tuple[int, list[re.Match[str]]] | None:
    """Size of the images and tokens of a name; None where it is none of this family."""
    head = re.fullmatch(r"sequential-(\d{1,4})-(.+)", name, re.ASCII)
    if head is None:
        return None
    tokens = [TOKEN.fullmatch(token) for token in head[2].split("-")]
    known = [token for token in tokens if token is not None]
    if len(known) != len(tokens) or len(tokens) > 4 * MAX_LAYERS or not known[-1]["linear"]:
        return None
    if any(token["linear"] and not token["width"] for token in known[:-1]) or known[-1]["width"]:
        return None
    return int(head[1]), known


def ends_of(shapes: refusal.Shapes) -> tuple[int, int] | None:
    """(channels of the image, number of classes); None for another family."""
    name, layers = sequential_name(shapes), _layers(shapes)
    parsed = tokens_of(name) if name else None
    if parsed is None or layers is None:
        return None
    first = layers[0][2][1]
    return (first if layers[0][1] == "c" else first // parsed[0] ** 2), layers[-1][2][0]


def layouts(name: str) -> tuple[str, ...]:
    """Strides and paddings that lead to as many values as the name has before its first linear layer.

    Args:
        name: of this family.
    Returns:
        ``STRIDE.PADDING`` of each convolution, joined by ``/``, the usual layout first; empty where nothing
        leads there, or without convolutions.
    """
    return tuple(layout for _, layout in _ranked(name))


@lru_cache(maxsize=32)
def _ranked(name: str) -> tuple[tuple[int, str], ...]:
    """(how far it is from the usual, layout), the usual ones first."""
    parsed = tokens_of(name)
    if parsed is None:
        return ()
    size, tokens = parsed
    convolutions = [token for token in tokens if token["planes"]]
    inputs = next((int(token["values"]) for token in tokens if token["values"]), 0)
    if not convolutions or not inputs:
        return ()
    planes = int(convolutions[-1]["planes"])
    side = isqrt(inputs // planes)
    if side * side * planes != inputs:
        return ()
    choices = [_usual(int(token["kernel"])) for token in convolutions]
    ranked = [
        (_unusual(combination, choices, convolutions), combination)
        for combination in islice(product(*choices), MAX_TRIED)
        if _side_after(size, tokens, combination) == side
    ]
    ranked.sort(key=lambda entry: entry[0])
    return tuple((rank, "/".join(f"{s}.{p}" for s, p in layout)) for rank, layout in ranked[:MAX_LAYOUTS])


def _layers(shapes: refusal.Shapes) -> list[tuple[int, str, tuple[int, ...]]] | None:
    """(number, c, l or b, shape of the weight) of every layer in order; None for another family."""
    numbers = set()
    for name in shapes:
        match = re.fullmatch(r"(\d{1,3})\.(weight|bias|running_mean|running_var|num_batches_tracked)", name)
        if match is None:
            return None
        numbers.add(int(match[1]))
    if not numbers or len(numbers) > MAX_LAYERS:
        return None
    layers: list[tuple[int, str, tuple[int, ...]]] = []
    for number in sorted(numbers):
        shape = shapes.get(f"{number}.weight", ())
        if f"{number}.running_mean" in shapes and len(shape) == 1:
            kind = "b"
        elif len(shape) == 4 and shape[2] == shape[3]:
            kind = "c"
        elif len(shape) == 2:
            kind = "l"
        else:
            return None
        if min(shape) < 1:
            return None
        layers.append((number, kind, shape))
    return layers if layers[-1][1] == "l" and layers[0][1] != "b" else None


def _fillers(before: str, kind: str, gap: int) -> str | None:
    """What ``gap`` modules without weights are; a batch-norm stands right behind its layer."""
    if not before:
        # Images are flattened before a first linear layer; before a convolution nothing stands.
        return {("l", 1): "f", ("c", 0): ""}.get((kind, gap))
    known = BETWEEN.get((before, kind), ("",))
    return known[gap] if gap < len(known) else None


def _input(layers: Sequence[tuple[int, str, tuple[int, ...]]], tokens: Sequence[str]) -> tuple[int, int]:
    """Channels and size of the image; size 0 where no known one fits."""
    first = layers[0][2]
    if layers[0][1] == "l":
        for channels, sizes in SIZES.items():
            for size in sizes:
                if channels * size * size == first[1]:
                    return channels, size
        return 0, 0
    channels = first[1]
    possible = {size: _ranked(f"sequential-{size}-{'-'.join(tokens)}") for size in SIZES.get(channels, ())}
    ranks = {size: ranked[0][0] for size, ranked in possible.items() if ranked}
    # Many layouts lead anywhere, so what images of that kind mostly are counts as well.
    ranks = {size: rank + UNUSUAL_SIZES[channels].get(size, 0) for size, rank in ranks.items()}
    return channels, min(ranks, key=lambda size: ranks[size], default=0)


def _usual(kernel: int) -> list[tuple[int, int]]:
    """(stride, padding) of a convolution, the usual ones first."""
    half = (kernel - 1) // 2
    first = [(2, half)] if kernel % 2 == 0 else [(1, half), (2, half)]
    others = [(s, p) for s in (1, 2, 3, 4) for p in range(kernel // 2 + 1)]
    others.sort(key=lambda pair: (pair[1] not in (0, half), pair[0], pair[1]))
    return first + [pair for pair in others if pair not in first]


def _unusual(
    combination: Sequence[tuple[int, int]],
    choices: Sequence[list[tuple[int, int]]],
    convolutions: Sequence[re.Match[str]],
) -> int:
    """How far a layout is from the usual ones; equal kernels mostly have equal strides."""
    ranks = sum(choice.index(pair) for pair, choice in zip(combination, choices, strict=True))
    forms = {(token["kernel"], pair) for token, pair in zip(convolutions, combination, strict=True)}
    kernels = {token["kernel"] for token in convolutions}
    return ranks + 4 * (len(forms) - len(kernels))


def _side_after(
    size: int,
    tokens: Sequence[re.Match[str]],
    combination: Sequence[tuple[int, int]],
) -> int | None:
    """Height and width before the flattening; None where a layer has nothing left to see."""
    pairs: Iterator[tuple[int, int]] = iter(combination)
    for token in tokens:
        if token["planes"]:
            stride, padding = next(pairs)
            size = (size + 2 * padding - int(token["kernel"])) // stride + 1
        elif token[0] == "m":
            size //= 2
        elif token["values"]:
            break
        if size < 1:
            return None
    return size


def inactive(tokens: Sequence[re.Match[str]]) -> dict[str, tuple[int, ...]]:
    """Activations that published networks leave out, by a name: the numbers of their tokens.

    ``last``: the one before the last layer; ``linear``: all between linear layers; ``all``.
    """
    every = tuple(number for number, token in enumerate(tokens) if token[0] == "a")
    first = next((number for number, token in enumerate(tokens) if token["linear"]), len(tokens))
    names = {every: "all", tuple(place for place in every if place > first): "linear", every[-1:]: "last"}
    return {name: places for places, name in reversed(names.items()) if places}


def resolve(name: str, family: registry.Architecture) -> registry.Architecture | None:
    """The architecture of that name, its layouts and activations as variants; None for another family."""
    parsed = tokens_of(name)
    if parsed is None:
        return None
    possible = layouts(name)
    pools = any(token[0] == "m" for token in parsed[1])
    variants = {
        **({"layout": possible[1:]} if len(possible) > 1 else {}),
        **({"pooling": POOLINGS[1:]} if pools else {}),
        **(family.variants if any(token[0] == "a" for token in parsed[1]) else {}),
        **({registry.INACTIVE: tuple(left_out)} if (left_out := inactive(parsed[1])) else {}),
    }
    return replace(family, name=name, parameters={"stack": name}, variants=variants, image_size=parsed[0])
