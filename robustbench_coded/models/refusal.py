"""Why a file is refused, and how its weights differ from those that an architecture has."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from shlex import quote

from torch import Tensor

from robustbench_coded.models.shipped import ENDINGS

# Twice the largest network in use here (WRN-70-16, 1.1 GB in float32), so that a whole file fits in memory
# beside its copies.
MAX_FILE_BYTES = 2 * 2**30

# What describes the weights: the header of a safetensors file, the pickle of a torch file. ResNet-101 needs
# 0.1 MB; a parser's memory is up to a hundred times the text.
MAX_HEADER_BYTES = 2 * 2**20

# Files inside a torch archive, or tensors in a header.
MAX_TENSORS = 20_000


class Refused(Exception):
    """The fault of a file, without the file's name: one clause that ends in how to fix it."""


class Unrecognised(Refused):
    """The same of weights whose network has to be stated: `stating` says how."""


def stating(file: str) -> str:
    """How the network of a file is stated, with the command."""
    return (
        "pass --arch torchvision:NAME, --arch NAME of `csrobust list models`, or a file of your own, whose "
        "build() returns the network without weights: "
        f"csrobust eval --ckpt {quote(file)} --arch file.py:build"
    )


ONE_LOGIT = (
    "two logits are evaluated: with --arch file.py:build, return a module that answers "
    "torch.nn.functional.pad(z, (1, 0)) for its one logit z, or for its probability p with z = p.logit(1e-6)"
)
HOW_TO_MEND = (
    "where you trust it, load it in its own program, and there torch.save(model.state_dict(), FILE), or "
    "robustbench_coded.evaluate(model, (x, y))"
)


def holds_objects(path: str) -> str:
    """That the objects which a pickle names ``"module name"`` are not loaded, and what to do."""
    name = path.replace(" ", ".")[:100]
    if name.startswith("numpy.") and name.endswith("._reconstruct"):
        return (
            "it holds NumPy arrays in place of weights, which are not loaded; where you trust it, load it "
            "in its own program and torch.save({k: torch.tensor(v) for k, v in weights.items()}, FILE)"
        )
    library = name.partition(".")[0]
    writer = f"it was written with {library}: " if library in ("dill", "cloudpickle") else ""
    return f"{writer}its pickle holds code or objects ({name}), never loaded; {HOW_TO_MEND}"


def another_zip(names: list[str]) -> str | None:
    """The kind of a zip archive by the names of its files; None if torch.save may have written it."""
    if any(name.endswith(("/constants.pkl", "/archive_format")) or "/code/" in name for name in names):
        exported = any(name.endswith("/archive_format") for name in names)
        kind, read = ("torch.export", "export.load(FILE)") if exported else ("TorchScript", "jit.load(FILE)")
        code = f"a {kind} archive, which holds code: not loaded; where you trust it, "
        return f"{code}torch.save(torch.{read}.state_dict{'' if exported else '()'}, NEW_FILE)"
    if any(name.endswith(".weights.h5") for name in names):
        return f"a Keras file; only PyTorch's weights are read: {SERVED}"
    if names and all(name.endswith(".npy") for name in names):
        return "NumPy arrays, which belong to --data npz:FILE if they are images and labels"
    inside = next((name for name in names if name.endswith(ENDINGS)), None)
    return f"a zip archive that holds {inside[:60]}; unpack it first" if inside else None


SERVED = (
    'let a program of yours answer with it: --defence "cmd: python serve.py" (docs/your-defence.md, '
    "docs/examples/serve_numpy.py)"
)

# How other kinds of files begin, and what they are.
STRANGERS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself; fetch it with git lfs pull"),
    (b"<", "a web page or XML; download the checkpoint itself"),
    (b"\x89HDF\r\n", f"a Keras or HDF5 file; only PyTorch's weights are read: {SERVED}"),
    (b"\x93NUMPY", "a NumPy array, which belongs to --data npz:FILE if it holds images"),
    (b"\x1f\x8b", "compressed with gzip; unpack it first"),
    (b"{", "text in JSON, as a server's answer; download the checkpoint itself"),
    (b"404", "a server's answer (not found); download the checkpoint itself"),
)


def another_file(data: bytes) -> str:
    """The kind of a file that begins unlike a checkpoint."""
    text = data[:64].lstrip()
    if text.startswith(b"{") and b'"weight_map"' in data:
        return (
            "the index of a file in several parts, which hold the weights; join them: torch.save({k: v for "
            "part in PARTS for k, v in safetensors.torch.load_file(part).items()}, FILE)"
        )
    if data[4:8] == b"TFL3":
        return f"a TensorFlow Lite file; only PyTorch's weights are read: {SERVED}"
    for beginning, what in STRANGERS:
        if data.startswith(beginning) or text.startswith(beginning):
            return what
    if data.startswith(b"\x80"):
        return f"a plain pickle, which can hold code: not loaded; {HOW_TO_MEND}"
    if re.match(rb"\x08[\x01-\x20][\x12\x1a\x3a\x42]", data):  # its version, then a field of its model
        return (
            "perhaps an ONNX file; save the state dict of the PyTorch network that it comes from, or "
            f"{SERVED}"
        )
    return (
        f"not a checkpoint: it begins with {data[:12]!r}, which neither torch.save nor safetensors writes; "
        "torch.save(model.state_dict(), FILE) writes one"
    )


Shapes = Mapping[str, tuple[int, ...]]


def shapes_in(tensors: Mapping[str, Tensor]) -> Shapes:
    """The shape of each tensor, by its name."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


# Counts batches in training; old files lack it and no answer depends on it.
COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class WeightDifference:
    """The difference between a file and an architecture.

    Attributes:
        arch: name of the architecture.
        expected: number of its weights, without counters of batches.
        total: number of names that the two have together.
        count: weights that are missing, unexpected or of another shape.
        first: the first of them, a clause; empty where there is none.
    """

    arch: str
    expected: int
    total: int
    count: int
    first: str

    @property
    def share(self) -> float:
        """Share of names that differ, in [0, 1]."""
        return self.count / max(1, self.total)

    def __str__(self) -> str:
        others = f" ({self.count} of {self.total} differ)" if self.count > 1 else ""
        return f"{self.arch}, where {self.first}{others}"


def compare(arch: str, shapes: Shapes, expected: Shapes, prefix: str = "") -> WeightDifference:
    """Compares a file's names and shapes with an architecture's, in the architecture's order.

    Counters of batches do not count. ``prefix``: what was taken off the file's names, for messages.
    """
    shapes, expected = (
        {n: s for n, s in names.items() if not n.endswith(COUNTER)} for names in (shapes, expected)
    )
    clauses = []
    for name, shape in expected.items():
        if name not in shapes:
            clauses.append(f"{prefix}{name} is missing")
        elif shapes[name] != shape:
            clauses.append(f"{prefix}{name} is {list(shapes[name])} instead of {list(shape)}")
    unexpected = [name for name in shapes if name not in expected]
    clauses += [f"{prefix}{name[:80]} has no place" for name in unexpected]
    total = len(expected) + len(unexpected)
    return WeightDifference(arch, len(expected), total, len(clauses), clauses[0] if clauses else "")
