"""Files from strangers: refused in one line that names the file; nothing executed, nothing allocated."""

import argparse
import collections
import datetime
import functools
import importlib
import io
import json
import os
import pickle
import random
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from robustbench_coded.errors import InputError
from robustbench_coded.models import archive
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.torch_file import read_torch
from robustbench_coded.paper.training.fresh import build
from robustbench_coded.user_code import time_limit

MUTATIONS = {"short": 300, "soak": 10_000}
MOST_SECONDS = 60.0  # for one file: it takes milliseconds, but the machine may be busy
MOST_KIB = 64 * 1024  # beside what is in use before: the files have 100 KiB

HOOKS = collections.OrderedDict()
WEIGHTS = build("digits-cnn", 10, 1).state_dict()


class Call:
    """Pickles as a call of ``function``."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class StoredIn:
    """Pickles as a storage of an archive."""

    def __init__(self, numel, key="0", kind=torch.FloatStorage):
        self.identity = ("storage", kind, key, "cpu", numel)


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return value.identity if isinstance(value, StoredIn) else None


def tensor(size, stride, *, numel=4, offset=0, hooks=HOOKS, key="0"):
    rebuild = torch._utils._rebuild_tensor_v2
    return Call(rebuild, StoredIn(numel, key), offset, size, stride, False, hooks)


def zipped(files, method=zipfile.ZIP_STORED):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archived:
        for name, data in files:
            archived.writestr(name, data)
    return packed.getvalue()


def torch_zip(
    value, records=(("data/0", bytes(16)),), *, pickled=None, method=zipfile.ZIP_STORED, protocol=2
):
    """An archive as torch.save writes it, of anything."""
    if pickled is None:
        stream = io.BytesIO()
        Pickler(stream, protocol).dump(value)
        pickled = stream.getvalue()
    files = (("data.pkl", pickled), ("version", b"3\n"), *records)
    return zipped(((f"archive/{name}", data) for name, data in files), method)


def saved(value, **options):
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def with_weight(name, value):
    return saved({**WEIGHTS, name: value})


def safe(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape=(2, 2), place=(0, 16)):
    return {"w": {"dtype": "F32", "shape": list(shape), "data_offsets": list(place)}}


def with_metadata(**metadata):
    return safetensors.torch.save(WEIGHTS, {"csrobust": json.dumps(metadata)})


def torchscript():
    return torch_zip({}, [("constants.pkl", b"\x80\x02)."), ("code/__torch__.py", b"class Module: ...")])


def two_roots():
    packed = io.BytesIO(saved(WEIGHTS))
    with zipfile.ZipFile(packed, "a") as file:
        file.writestr("other/data.pkl", b"\x80\x02}.")
    return packed.getvalue()


def big_tuple_key():
    """Hashing this key would visit 2 ** 60 tuples."""
    return torch_zip(None, pickled=b"\x80\x02}" + b")" + b"q\x00h\x00\x86" * 60 + b"K\x01s.")


def beside(value):
    return torch_zip({"state_dict": {}, "beside": value})


def copies(function, text):
    """A call of a function with a text, and three hundred calls with the same one."""
    first = function + b"q\x00" + text + b"q\x01X\x06\x00\x00\x00latin1q\x02\x86q\x03R"
    return b"\x80\x02" + first + b"h\x00h\x03R" * 300 + b"N."


def cycle():
    value = []
    value.append(value)
    return saved({"state_dict": WEIGHTS, "recipe": value})


def shared_lists():
    value = []
    for _ in range(40):
        value = [value, value]
    return saved({"state_dict": WEIGHTS, "recipe": value})


def many_views():
    view = torch.zeros(2000).half()
    return saved({f"w{index}": view for index in range(20)})


def in_itself():
    module = nn.Sequential()
    module.lin = nn.Linear(1, 1)
    module._modules["again"] = module
    return module


def sources_in_sources():
    """The class of a module and its source, whose class is such a pair."""
    pair = b"(X\x06\x00\x00\x00modulec__main__\nCNN\nNNtQ"
    outer = b"(X\x06\x00\x00\x00module" + pair + b"NNtQ"
    return b"".join(
        (archive.LEGACY_MAGIC, pickle.dumps(1001, 2), pickle.dumps({}, 2), b"\x80\x02", outer, b".")
    )


def bottom(data, count):
    return data[: len(data) - count]


def legacy(weights):
    """As torch.save wrote it before 1.6, with numbers for the storages' addresses: always the same bytes."""
    stream = io.BytesIO()
    for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(value, stream, 2)
    tensors = collections.OrderedDict()
    for key, (name, weight) in enumerate(weights.items()):
        kind = torch.FloatStorage if weight.is_floating_point() else torch.LongStorage
        stored = StoredIn(weight.numel(), str(key), kind)
        stored.identity += (None,)
        rebuild = torch._utils._rebuild_tensor_v2
        tensors[name] = Call(rebuild, stored, 0, tuple(weight.shape), weight.stride(), False, HOOKS)
    Pickler(stream, 2).dump(tensors)
    pickle.dump([str(key) for key in range(len(weights))], stream, 2)
    for weight in weights.values():
        stream.write(struct.pack("<q", weight.numel()) + weight.numpy().tobytes())
    return stream.getvalue()


ZIP, LEGACY = saved(WEIGHTS), legacy(WEIGHTS)
SAFE = safetensors.torch.save(WEIGHTS)

HOSTILE = {
    # not a checkpoint
    "empty": (b"", "the file is empty"),
    "text": (b"hello there, this is text", r"not a checkpoint: it begins with b'hello there,'"),
    "dill": (
        torch_zip(None, pickled=b"\x80\x02cdill._dill\n_create_type\n(X\x03\0\0\0NettR)R."),
        r"it was written with dill: .*\(dill._dill._create_type\), never loaded; .*evaluate\(model, \(x, y\)",
    ),
    "web page": (b"<!DOCTYPE html><html>", "a web page or XML"),
    "LFS pointer": (b"version https://git-lfs\noid sha256:00", "a Git LFS pointer"),
    "gzip": (b"\x1f\x8b\x08\x00", "compressed with gzip"),
    "NumPy array": (b"\x93NUMPY\x01\x00", "a NumPy array"),
    "HDF5": (b"\x89HDF\r\n\x1a\n", "a Keras or HDF5 file"),
    "npz": (zipped([("x.npy", b"\x93NUMPY")]), "NumPy arrays, which belong to --data npz:FILE"),
    "plain pickle": (
        pickle.dumps({"a": 1}),
        "a plain pickle, which can hold code: not loaded; where you trust it",
    ),
    # code
    "TorchScript": (torchscript(), "a TorchScript archive, which holds code.*torch.jit.load"),
    "module without weights": (
        saved(nn.Sequential(nn.ReLU())),
        r"holds code or objects \(torch.nn.modules.container.Sequential\).*state_dict\(\), FILE",
    ),
    "module in itself": (saved(in_itself()), "its modules lie in one another without end"),
    "call beside weights": (torch_zip({"extra": Call(os.getcwd)}), r"objects \(posix.getcwd\)"),
    "sources in sources, before 1.6": (sources_in_sources(), "holds code or objects .__main__.CNN"),
    "bytearray": (torch_zip(Call(bytearray, 10**12)), r"holds code or objects \(__builtin__.bytearray\)"),
    "bytearray of Python 3": (
        torch_zip(None, pickled=b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R."),
        r"objects \(builtins.bytearray\)",
    ),
    "set": (torch_zip({1, 2}), r"holds code or objects \(__builtin__.set\)"),
    "INST opcode": (
        torch_zip(None, pickled=b"\x80\x02(ios\nsystem\n."),
        "torch.save, which writes no operation INST",
    ),
    "storage type called": (
        torch_zip(None, pickled=b"\x80\x02ctorch\nFloatStorage\nK\x09\x85R."),
        r"holds code or objects \(torch.FloatStorage\)",
    ),
    "protocol 4": (torch_zip({}, protocol=4), "pickle protocol 4; save it with torch.save's own"),
    # sizes
    "shape beyond its storage": (
        torch_zip({"w": tensor((10**12,), (1,))}),
        "damaged .*out of bounds",
    ),
    "shape beyond its storage, before 1.6": (
        legacy({"w": torch.zeros(4)}).replace(b"K\x04\x85", b"J\xff\xff\xff\x7f\x85", 1),
        "damaged",
    ),
    "shape of zero and absurd sides": (torch_zip({"w": tensor((0, 10**15), (1, 1))}), "larger than the file"),
    "negative side": (torch_zip({"w": tensor((-4,), (1,))}), "damaged"),
    "hundred sides": (torch_zip({"w": tensor((1,) * 100, (1,) * 100)}), "none is near"),
    "stride past the end": (torch_zip({"w": tensor((2,), (4,))}), "damaged"),
    "offset past the end": (torch_zip({"w": tensor((2,), (1,), offset=3)}), "damaged"),
    "negative stride": (torch_zip({"w": tensor((2,), (-1,))}), "damaged"),
    "one value repeated": (torch_zip({"w": tensor((10**9,), (0,))}), "larger than the file"),
    "storage beyond its record": (
        torch_zip({"w": tensor((4,), (1,), numel=10**11)}),
        "data/0 claims 400000000000 bytes, the archive holds 16$",
    ),
    "storage without a record": (
        torch_zip({"w": tensor((4,), (1,), key="7")}),
        "data/7 claims 16 bytes, the archive holds 0",
    ),
    "storage of two sizes": (
        torch_zip([tensor((4,), (1,)), tensor((4,), (1,), numel=5)]),
        "two sizes of storage 0",
    ),
    "storage outside any archive": (
        torch_zip([tensor((4,), (1,), key="../../x")]),
        "not a storage",
    ),
    "many views of one storage": (many_views(), "its weights are larger than the file"),
    "numbers in the other order of bytes": (
        torch_zip(tensor((4,), (1,)), [("data/0", bytes(16)), ("byteorder", b"big")]),
        "not in little-endian order",
    ),
    "storages that claim more than is left, before 1.6": (
        legacy({"w": torch.zeros(4)}).replace(b"K\x04N", b"J\xff\xff\xff\x7fN"),
        r"its storages claim 8589934588 bytes of \d+; copy",
    ),
    "compressed": (
        torch_zip({}, [("data/0", bytes(10**6))], method=zipfile.ZIP_DEFLATED),
        "compressed, or claims to hold more",
    ),
    "two archives in one": (two_roots(), "torch.save did not write"),
    "many files": (zipped((str(index), b"") for index in range(20_001)), "more than 20000 files"),
    "tuple of tuples as key": (big_tuple_key(), "no weights in it"),
    "pickle of many megabytes": (
        torch_zip(["x" * 3 * 2**20]),
        "a pickle of more than 2097152 bytes",
    ),
    "safetensors header of exabytes": (
        safe({}, length=2**62),
        "header of 4611686018427387904 bytes; 2097152 is",
    ),
    "safetensors header beyond the file": (
        safe({}, length=100),
        "damaged safetensors file .*header length",
    ),
    "safetensors header of nested lists": (
        safe(b'{"a":' + b"[" * 10**6 + b"]" * 10**6 + b"}"),
        "damaged safetensors file .*JSON",
    ),
    "safetensors shape too large": (
        safe(entry((2**40,)), bytes(16)),
        "damaged safetensors file .*shape",
    ),
    "safetensors place too small": (safe(entry(place=(0, 8)), bytes(16)), "damaged safetensors file"),
    # damage
    "a server's answer": (b'\n {"message": "Not Found"}', "text in JSON.*download the checkpoint"),
    "a page behind empty lines": (b"\r\n\n<html></html>", "a web page"),
    "zip cut": (bottom(ZIP, 100), "truncated, damaged .*not a zip file"),
    "zip with a flipped bit": (
        ZIP.replace(*(lambda w: (w, bytes([w[0] ^ 1]) + w[1:]))(WEIGHTS["conv3.weight"].numpy().tobytes())),
        "truncated, damaged .*CRC",
    ),
    "legacy cut": (bottom(LEGACY, 5), "truncated, damaged .*could not broadcast"),
    "legacy cut in its pickle": (
        LEGACY[:600],
        r"truncated or damaged: its storages claim \d+ bytes of 600; copy or download it again",
    ),
    "safetensors cut": (
        bottom(SAFE, 5),
        "truncated or damaged safetensors file .*; copy or download it again",
    ),
    # weights
    "no weights": (saved({"epoch": 3}), "no weights in it; expected a state dict, alone or under state_dict"),
    "NumPy arrays": (
        saved({name: weight.numpy() for name, weight in WEIGHTS.items()}),
        r"NumPy arrays in place of weights.*torch\.save\(\{k: torch\.tensor",
    ),
    "one tensor": (saved(torch.zeros(3)), "no weights in it"),
    "NaN": (
        with_weight("bn1.bias", torch.full((16,), torch.nan)),
        "bn1.bias has 16 NaN or infinite values of 16",
    ),
    "infinite in float32": (
        with_weight("linear.bias", torch.full((10,), 1e300, dtype=torch.float64)),
        "10 NaN or infinite",
    ),
    "negative variance": (with_weight("bn1.running_var", -torch.ones(16)), "a variance below 0"),
    "complex": (
        with_weight("linear.bias", torch.zeros(10) * 1j),
        "of a type that is rarely used .torch ComplexFloatStorage.; dense float ones are read",
    ),
    "float8": (
        with_weight("linear.bias", torch.zeros(10).to(torch.float8_e4m3fn)),
        "of a type that is rarely used .torch.storage UntypedStorage",
    ),
    "sparse": (
        with_weight("linear.weight", torch.eye(3).to_sparse()),
        "weights of another kind ._rebuild_sparse_tensor",
    ),
    "quantised": (
        with_weight("linear.weight", torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.qint8)),
        "weights that are quantised .torch QInt8Storage.; dense float ones are read",
    ),
    "integers": (with_weight("linear.bias", torch.zeros(10).to(torch.int8)), "linear.bias is an integer"),
    "names with newlines": (saved({"a\nb\x1b[31m": torch.zeros(3)}), "no known architecture"),
    "deviation of zero": (
        saved({**WEIGHTS, "mean": torch.zeros(1), "std": torch.zeros(1)}),
        "positive deviations",
    ),
    "three channels of mean for one": (
        saved({**WEIGHTS, "mean": torch.zeros(3), "std": torch.ones(3)}),
        "has 3 channels",
    ),
    # metadata
    "metadata no table": (safetensors.torch.save(WEIGHTS, {"csrobust": "[1]"}), "xpected `object`"),
    "metadata not JSON": (safetensors.torch.save(WEIGHTS, {"csrobust": "{"}), "csrobust is not JSON"),
    "metadata of nested lists": (
        safetensors.torch.save(WEIGHTS, {"csrobust": "[" * 10**5}),
        "csrobust is not JSON",
    ),
    "an object of numpy": (
        beside(Call(np.dtype, "O8", False, True)),
        r"holds code or objects \(numpy.dtype\)",
    ),
    "a text copied for ever": (
        torch_zip(None, pickled=copies(b"c_codecs\nencode\n", b"X\x00\x00\x01\x00" + b"x" * 2**16)),
        r"holds code or objects \(_codecs.encode\)",
    ),
    "one module under many names": (
        saved({**WEIGHTS, **{str(index): nn.Sequential(*[nn.ReLU()] * 300) for index in range(100)}}),
        "its modules lie in one another without end",
    ),
    "a cycle": (cycle(), "holds the same values without end"),
    "shared lists": (shared_lists(), "holds the same values without end"),
    "metadata with an impossible class count": (with_metadata(classes=1), "xpected `int` >= 2.*classes"),
    "metadata with an impossible image": (with_metadata(image_shape=[1, 8]), "length 3.*image_shape"),
    "metadata with an impossible arch": (with_metadata(arch=7), "xpected `str.*arch"),
    "metadata with NaN deviations": (
        with_metadata(normalisation={"mean": [0.0], "std": [float("nan")]}),
        "normalisation",
    ),
    "metadata with another normalisation": (with_metadata(normalisation="imagenet"), "is not for 1 channels"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_in_one_line(tmp_path, case):
    data, message = HOSTILE[case]
    path = tmp_path / "model.pt"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as error:
        load_checkpoint(path)
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    assert text.isprintable()
    assert len(text) < 1000


@pytest.mark.parametrize(
    "write",
    [
        lambda value: pickle.dumps(value, 2),
        lambda value: pickle.dumps(value, 4),
        lambda value: torch_zip(value),
        lambda value: torch_zip({"state_dict": WEIGHTS["bn1.bias"].tolist(), "optimizer": value}),
        lambda value: saved(value, _use_new_zipfile_serialization=False),
        lambda value: archive.LEGACY_MAGIC + pickle.dumps(value, 2),
    ],
    ids=["pickle", "pickle 4", "zip", "beside weights", "before 1.6", "in place of the protocol"],
)
def test_planted_code_is_not_executed(tmp_path, write):
    planted = tmp_path / "planted"
    plant = Call(os.mkdir, str(planted))
    pickle.loads(pickle.dumps(plant))
    assert planted.exists(), "the plant works where pickles are executed"
    planted.rmdir()
    (tmp_path / "model.pth").write_bytes(write(plant))
    with pytest.raises(InputError, match=r"not loaded|never loaded|not a torch checkpoint"):
        load_checkpoint(tmp_path / "model.pth")
    assert not planted.exists()


def test_a_file_of_python_2_is_read():
    """Its texts are bytes, and an OrderedDict is called with its items, a Parameter with its tensor."""
    called = Call(collections.OrderedDict, [["w", Call(nn.Parameter, tensor((2, 2), (2, 1)))]])
    stream = io.BytesIO()
    Pickler(stream, 2).dump({"weights": called})
    pickled = stream.getvalue().replace(b"X\x07\0\0\0weights", b"U\x07weights")
    contents = read_torch(torch_zip(None, pickled=pickled))
    assert torch.equal(contents["weights"]["w"], torch.zeros(2, 2))


def test_the_source_in_a_file_of_before_1_6_is_never_run(tmp_path, monkeypatch, capsys):
    written = "from torch import nn\nprint('planted')\n\nclass Own(nn.Sequential):\n    pass\n"
    (tmp_path / "own_source.py").write_text(written)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    own = importlib.import_module("own_source").Own
    torch.save(own(nn.Linear(64, 7), nn.Linear(7, 10)), "own.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "own_source.py").unlink()
    del sys.modules["own_source"]
    assert capsys.readouterr().out == "planted\n"
    with pytest.raises(InputError, match=r"pass --arch .* --arch file.py:build$"):
        load_checkpoint("own.pt")
    assert capsys.readouterr().out == ""


def test_places_that_hold_no_file_are_refused(tmp_path):
    for path, message in (
        (tmp_path / "missing.pt", "no such file"),
        (tmp_path, "not a file"),
        ("/dev/zero", "not a file"),
        (tmp_path / ("x" * 300), "cannot be read"),
        ("a\0b", "cannot be read|no such file"),
    ):
        with pytest.raises(InputError, match=message):
            load_checkpoint(path)


def test_a_file_beyond_the_limit_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "model.pt").write_bytes(ZIP)
    monkeypatch.setattr(archive, "MAX_FILE_BYTES", len(ZIP) - 1)
    monkeypatch.setattr("pathlib.Path.read_bytes", lambda path: pytest.fail("read"))
    with pytest.raises(InputError, match="save the state dict without the optimiser"):
        load_checkpoint(tmp_path / "model.pt")


@pytest.mark.parametrize("legacy", [False, True])
def test_plain_data_of_training_programs_beside_the_weights_are_no_harm(tmp_path, legacy):
    """Settings, sizes and numpy's numbers make nothing happen; they are passed over."""
    state = {
        "net": WEIGHTS,
        "args": argparse.Namespace(lr=0.1, device=torch.device("cuda:0"), dtype=torch.float16),
        "acc": np.float64(91.5),
        "epoch": np.int64(3),
        "best": np.bool_(True),
        "shape": torch.Size([3, 32, 32]),
        "frozen": {"conv1", "bn1"},
    }
    torch.save(state, tmp_path / "model.pt", _use_new_zipfile_serialization=not legacy)
    loaded = load_checkpoint(tmp_path / "model.pt")
    assert loaded.arch == "digits-cnn"


class Settings(dict):
    """A dict with attributes, as configuration libraries have it."""


class Touches:
    """Whatever makes one leaves a file behind."""

    def __init__(self, path):
        self.path = path
        path.touch()

    def __reduce__(self):
        return Touches, (self.path,)


@pytest.mark.parametrize("legacy", [False, True])
def test_objects_beside_the_weights_are_passed_over_and_never_made(tmp_path, legacy):
    settings = Settings(lr=0.1)
    settings.path = Path("/somewhere")
    trace = tmp_path / "trace"
    state = {
        "state_dict": Settings(WEIGHTS),  # items of a dict are kept, whatever dict it is
        "args": argparse.Namespace(out=Path("runs"), layer=functools.partial(int, base=2)),
        "when": datetime.datetime(2020, 1, 2, 3),
        "losses": np.arange(5.0),
        "history": collections.defaultdict(list, loss=[0.1]),
        "last": collections.deque([1.0, 2.0]),
        "milestones": collections.Counter([3, 5]),  # as a MultiStepLR has them
        "settings": settings,
        "made": Touches(trace),
    }
    torch.save(state, tmp_path / "model.pt", _use_new_zipfile_serialization=not legacy)
    trace.unlink()
    loaded = load_checkpoint(tmp_path / "model.pt")
    assert loaded.arch == "digits-cnn" and not trace.exists()
    torch.testing.assert_close(loaded.network.state_dict()["conv1.weight"], WEIGHTS["conv1.weight"])


class Loud(type(build("digits-cnn", 10, 1))):
    """A network whose making and filling leave files behind."""

    trace: Path

    def __new__(cls):
        cls.trace.touch()
        return super().__new__(cls)

    def __setstate__(self, state):
        self.trace.touch()
        super().__setstate__(state)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before 1.6"])
@pytest.mark.parametrize(
    "wrap",
    [lambda net: net, nn.DataParallel, lambda net: {"epoch": 3, "net": net}],
    ids=["alone", "parallel", "in a dict"],
)
def test_a_pickled_module_is_read_and_its_code_never_runs(tmp_path, monkeypatch, legacy, wrap):
    trace = tmp_path / "trace"
    monkeypatch.setattr(Loud, "trace", trace, raising=False)
    network = build("digits-cnn", 10, 1)
    network.__class__ = Loud
    network.load_state_dict(WEIGHTS)
    network.register_buffer("passing", torch.zeros(3), persistent=False)
    network.planted = Touches(trace)
    torch.save(wrap(network), tmp_path / "model.pt", _use_new_zipfile_serialization=not legacy)
    torch.load(tmp_path / "model.pt", weights_only=False)
    assert trace.exists(), "it runs where pickles are executed"
    trace.unlink()
    loaded = load_checkpoint(tmp_path / "model.pt")
    assert loaded.arch == "digits-cnn" and not trace.exists()
    assert list(loaded.network.state_dict()) == list(WEIGHTS)
    for name, weight in loaded.network.state_dict().items():
        torch.testing.assert_close(weight, WEIGHTS[name])


def mutated(data, rng):
    """A few bytes changed, inserted, removed or copied; half of the time where the structure is."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if not data:
            break
        end = rng.choice((len(data), min(len(data), 2048)))
        at = rng.randrange(end) if rng.random() < 0.7 else len(data) - 1 - rng.randrange(min(len(data), 2048))
        kind = rng.randrange(6)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        elif kind == 2:
            data[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif kind == 3:
            del data[at : at + rng.randrange(1, 64)]
        elif kind == 4:
            source = rng.randrange(len(data))
            data[at : at + 16] = data[source : source + 16]
        elif rng.random() < 0.2:
            del data[at:]
    return bytes(data)


def used_at_most():
    """Memory that this process has held at the same time since the last call, KiB (Linux)."""
    most = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    Path("/proc/self/clear_refs").write_text("5")
    return int(most.split()[1])


@pytest.mark.long
@pytest.mark.parametrize(("name", "data"), [("zip", ZIP), ("legacy", LEGACY), ("safetensors", SAFE)])
def test_random_mutations_load_or_are_refused(tmp_path, soak, name, data):
    """Whatever the bytes: a checkpoint or an InputError, in no time and in the memory of some copies."""
    rng = random.Random(name)
    path = tmp_path / "model.pt"
    path.write_bytes(saved({"unknown": torch.zeros(1)}))
    with pytest.raises(InputError):  # compares with every architecture, which imports torchvision's
        load_checkpoint(path)
    path.write_bytes(data)
    load_checkpoint(path)
    used_at_most()
    before = used_at_most()
    refused = 0
    count = MUTATIONS["soak" if soak else "short"]
    for _ in range(count):
        path.write_bytes(mutated(data, rng))
        try:
            with time_limit(MOST_SECONDS):
                load_checkpoint(path)
        except InputError as error:
            refused += 1
            assert str(error).isprintable()
    assert 0 < refused < count
    assert used_at_most() - before < MOST_KIB
