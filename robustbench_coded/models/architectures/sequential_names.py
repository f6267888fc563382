"""Plain stacks of layers, from state dicts such as ``0.weight, 2.weight, 5.weight``, and their names.

Certified training and much code for MNIST build them as ``nn.Sequential``. The numbers say how many modules
without weights stand between two layers: one is an activation, two before a linear layer an activation and
the flattening, and so on. A pooling or a flattening in ``forward`` has no number. Strides and paddings leave
no trace but the number of inputs of the first linear layer. So several stacks may have the weights of one,
and only a published definition says which it is. Imports no torch.
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
UNNUMBERED = 2  # how far a pooling or flattening in forward is from the usual, each
MAX_LAYERS = 40
MAX_TRIED = 20_000

# What may stand between two layers with weights, convolution (c) or linear (l), by the number of modules, the
# usual first. What is in upper case has no number of its own.
BETWEEN = {
    ("", "c"): (("",),),
    ("", "l"): ((), ("f",)),
    ("c", "c"): (("",), ("a", "aP"), ("am",), ("ami",)),
    ("c", "l"): ((), ("f", "aF", "aPF"), ("af", "amF"), ("amf",), ("amfi",)),
    ("l", "l"): (("",), ("a",), ("ai",)),
}
# Activations beside ReLU, whose token is ``a``: the names of their classes in torch.nn.
ACTIVATIONS = (
    "leakyrelu", "silu", "gelu", "softplus", "elu", "selu", "mish", "hardswish", "relu6", "tanh", "sigmoid",
)  # fmt: skip
TOKEN = re.compile(
    r"c(?P<planes>\d{1,4})k(?P<kernel>\d{1,2})(?P<bare>n?)|(?P<linear>l)(?P<width>\d{0,6})(?P<bare_linear>n?)"
    rf"|[fF](?P<values>\d{{1,7}})|[bmPi]|(?P<activation>a|{'|'.join(ACTIVATIONS)})",
    re.ASCII,
)


def stack_names(shapes: refusal.Shapes, side: int | None = None) -> list[str]:
    """The stacks ``sequential-SIZE-...`` that have these numbers and shapes, the most usual first.

    The tokens are ``c16k4`` (convolution to 16 channels, kernel 4), ``l100`` (linear, the last one ``l``;
    ``n`` behind either means without biases), ``b`` (batch-norm), ``a`` (ReLU, or another activation by its
    name), ``m`` (2x2 max-pooling), ``f1568`` (flattening to so many values), ``i`` (nothing in eval mode, as
    dropout), ``P`` and ``F1568`` (pooling and flattening in ``forward``).

    Args:
        shapes: of the weights; of another family there is no stack.
        side: height and width of the images; None for all that are usual.
    """
    layers = _layers(shapes)
    if layers is None:
        return []
    gaps, reached, before = [], 0, ""
    for number, kind, _ in layers:
        # A batch-norm stands right behind its layer.
        known = BETWEEN.get((before, kind), (("",),))
        gaps.append(known[number - reached] if number - reached < len(known) else ())
        reached, before = number + 1, kind if kind != "b" else before
    ranked: list[tuple[int, str]] = []
    for fillers in islice(product(*gaps), MAX_LAYERS):
        tokens: list[str] = []
        for (number, kind, shape), filler in zip(layers, fillers, strict=True):
            tokens += [f"{token}{shape[1]}" if token in "fF" else token for token in filler]
            bare = "" if f"{number}.bias" in shapes else "n"
            width = shape[0] if number != layers[-1][0] else ""  # the number of classes is no part of a name
            tokens.append({"c": f"c{shape[0]}k{shape[-1]}{bare}", "l": f"l{width}{bare}", "b": "b"}[kind])
        unnumbered = UNNUMBERED * sum(token[0] in "PF" for token in tokens)
        for rank, size in _sizes(layers, tokens, side):
            ranked.append((rank + unnumbered, f"sequential-{size}-{'-'.join(tokens)}"))
    return [name for _, name in sorted(ranked, key=lambda entry: entry[0])]


def with_activation(name: str, activation: str) -> str:
    """The same stack with another activation."""
    return "-".join(activation if token == "a" else token for token in name.split("-"))


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
    if stated is not None and tokens_of(stated):
        tried = [stated]
    for stack in tried:
        tokens = stack.split("-")[2:] or ["f", *["l", "a"] * len(scopes)]
        kept = [token for token in tokens if token[0] not in "PF"]
        layered = [number for number, token in enumerate(kept) if re.match(r"c\d|l(\d|n?$)|b$", token)]
        if len(layered) < len(scopes):
            continue
        number_of = dict(zip(scopes, map(str, layered[: len(scopes)]), strict=True))
        names = {name: f"{number_of[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}" for name in shapes}
        usual = re.sub(rf"-({'|'.join(ACTIVATIONS)})(?=-)", "-a", stack)  # as those are named
        found = stack_names({names[name]: shape for name, shape in shapes.items()})
        if found and (not stack or usual in found):
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
    names, layers = stack_names(shapes), _layers(shapes)
    if not names or layers is None:
        return None
    first = layers[0][2][1]
    return (first if layers[0][1] == "c" else first // int(names[0].split("-")[1]) ** 2), layers[-1][2][0]


@lru_cache(maxsize=128)
def layout(name: str) -> tuple[int, tuple[tuple[int, int], ...]] | None:
    """The usual (stride, padding) of each convolution that leads to the values before the first linear layer.

    Args:
        name: of this family.
    Returns:
        How far it is from the usual ones, and the layout; None where nothing leads there.
    """
    parsed = tokens_of(name)
    if parsed is None:
        return None
    size, tokens = parsed
    convolutions = [token for token in tokens if token["planes"]]
    if not convolutions:
        return 0, ()
    inputs = next((int(token["values"]) for token in tokens if token["values"]), 0)
    planes = int(convolutions[-1]["planes"])
    side = isqrt(inputs // planes)
    if side * side * planes != inputs or not side:
        return None
    choices = [_usual(int(token["kernel"])) for token in convolutions]
    fitting = (
        (_unusual(combination, choices, convolutions), combination)
        for combination in islice(product(*choices), MAX_TRIED)
        if _side_after(size, tokens, combination) == side
    )
    return min(fitting, key=lambda entry: entry[0], default=None)


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


def _sizes(
    layers: Sequence[tuple[int, str, tuple[int, ...]]], tokens: Sequence[str], side: int | None
) -> Iterator[tuple[int, int]]:
    """(how far it is from the usual, size of the images) for each size that fits."""
    first = layers[0][2]
    if layers[0][1] == "l":  # the first size that has so many pixels
        fitting = (
            (0, size)
            for channels, sizes in SIZES.items()
            for size in (sizes if side is None else (side,))
            if channels * size * size == first[1]
        )
        yield from islice(fitting, 1)
        return
    for size in SIZES.get(first[1], ()) if side is None else (side,):
        # Many layouts lead anywhere, so what images of that kind mostly are counts as well.
        if (found := layout(f"sequential-{size}-{'-'.join(tokens)}")) is not None:
            yield found[0] + UNUSUAL_SIZES.get(first[1], {}).get(size, 0), size


def _usual(kernel: int) -> list[tuple[int, int]]:
    """(stride, padding) of a convolution, the usual ones first."""
    half = (kernel - 1) // 2
    first = [(2, half)] if kernel % 2 == 0 else [(1, half), (2, half)]
    others = [(s, p) for s in (1, 2) for p in range(kernel // 2 + 1)]
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
        elif token[0] in ("m", "P"):
            size //= 2
        elif token["values"]:
            break
        if size < 1:
            return None
    return size


def resolve(name: str, family: registry.Architecture) -> registry.Architecture | None:
    """The architecture of that name; None for another family."""
    parsed = tokens_of(name)
    return parsed and replace(family, name=name, parameters={"stack": name}, image_size=parsed[0])
