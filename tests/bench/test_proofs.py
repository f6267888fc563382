"""Rows that others decided: files of theirs, made here, and the question that csrobust is asked of each."""

import gzip
import pickle
import struct
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.peers import proofs
from benchmarks.peers import published_networks as networks

TEXT = "{bounds}\n(assert (or\n (and (>= Y_0 Y_1))\n (and (>= Y_2 Y_1))\n))"


def number(value):
    """A varint of protocol buffers."""
    value %= 1 << 64
    low, rest = value & 127, value >> 7
    return bytes([low | 128]) + number(rest) if rest else bytes([low])


def field(key, value):
    if isinstance(value, int):
        return number(key << 3) + number(value)
    return number(key << 3 | 2) + number(len(value)) + value


def tensor(name, values):
    kind = 1 if values.dtype == np.float32 else 7
    sizes = b"".join(field(1, size) for size in values.shape)
    return sizes + field(2, kind) + field(8, name) + field(9, values.tobytes())


def node(operator, takes, gives, attributes=b""):
    return b"".join(field(1, name) for name in takes) + field(2, gives) + field(4, operator) + attributes


def test_a_graph_answers_as_its_layers_do(tmp_path):
    weight = np.arange(6, dtype=np.float32).reshape(2, 3) - 2
    shape, axis = np.array([-1, 2], np.int64), field(5, field(1, b"axis") + field(3, -1))
    nodes = [
        node(b"Reshape", [b"x", b"shape"], b"flat"),
        node(b"MatMul", [b"flat", b"w"], b"z"),
        node(b"Relu", [b"z"], b"out"),
        node(b"Softmax", [b"out"], b"shares", axis),
    ]
    graph = b"".join(field(1, one) for one in nodes) + field(11, field(1, b"x"))
    graph += field(5, tensor(b"w", weight)) + field(5, tensor(b"shape", shape))
    (tmp_path / "net.onnx.gz").write_bytes(gzip.compress(field(7, graph)))
    x = torch.tensor([[[1.0], [2.0]], [[-1.0], [0.5]]])
    answers = networks.Graph(tmp_path / "net.onnx")(x)
    assert torch.equal(answers, (x[..., 0] @ torch.tensor(weight)).relu())


def test_attributes_keep_signs_and_fractions():
    epsilon = field(5, field(1, b"epsilon") + number(2 << 3 | 5) + struct.pack("<f", 0.25))
    axes = field(5, field(1, b"axes") + field(8, -1) + field(8, 2))
    assert networks.attributes(networks.message(epsilon + axes)) == {"epsilon": 0.25, "axes": [-1, 2]}


def test_a_table_is_read_without_pandas_and_no_other_class_is_made(tmp_path, monkeypatch):
    module = types.ModuleType("pandas.stand_in")
    module.Frame = type("Frame", (), {"__module__": module.__name__, "__qualname__": "Frame"})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    blocks = [
        {"mgr_locs": slice(0, 1), "values": np.array([[7, 9]])},
        {"mgr_locs": np.array([1]), "values": np.array([["False", "timeout"]], object)},
    ]
    manager, frame = module.Frame(), module.Frame()
    names = np.array(["Idx", "BSAT"], object)
    manager.state = [None, None, None, {"0.14.1": {"axes": [names], "blocks": blocks}}]
    frame.state = {"_data": manager}
    monkeypatch.setattr(module.Frame, "__reduce__", lambda one: (module.Frame, (), one.state), raising=False)
    (tmp_path / "rows.pkl").write_bytes(pickle.dumps(frame))
    columns = networks.table(tmp_path / "rows.pkl")
    assert columns["Idx"].tolist() == [7, 9] and columns["BSAT"].tolist() == ["False", "timeout"]
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps(print))
    with pytest.raises(pickle.UnpicklingError, match=r"builtins.print is no array"):
        networks.table(tmp_path / "bad.pkl")


@pytest.mark.parametrize("order", ["", "last"])
def test_a_specification_gives_back_its_image(order):
    image = torch.tensor([0, 3, 255, 128] * 3).view(3, 2, 2) / 255
    image[1] = 200 / 255
    low, high = (image - 5 / 255).clamp(0, 1), (image + 5 / 255).clamp(0, 1)
    bounds = []
    for sign, end in ((">=", low), ("<=", high)):
        values = ((end - 0.5) / 0.25).permute(1, 2, 0) if order else (end - 0.5) / 0.25
        bounds += [f"(assert ({sign} X_{i} {v}))" for i, v in enumerate(values.flatten().tolist())]
    text = TEXT.format(bounds="\n".join(bounds))
    found, radius, classes, label = proofs.specified(text, ((0.5,) * 3, (0.25,) * 3), order)
    assert torch.equal(found, image) and radius == pytest.approx(5 / 255)
    assert classes == (0, 1, 2) and label == 1


@pytest.mark.parametrize("clipped", [True, False])
def test_rows_of_many_radii_are_asked_within_their_own(clipped):
    class Mean(nn.Module):
        def forward(self, x):
            mean = x.mean((1, 2, 3))
            return torch.stack([mean, -mean, 2 * mean], 1)

    rows = [
        proofs.Row(
            f"row {i}", proofs.ROBUST, torch.full((3, 12, 12), 0.1 * i), 0.05 * (i + 1), classes, i % 2
        )
        for i, classes in enumerate([(0, 1), (2, 0), (1, 2)])
    ]
    model = proofs.Questions(proofs.Network("here", "here", Mean(), rows, clipped))
    inputs = model.inputs()
    assert torch.allclose(model(inputs), torch.tensor([[0.0, 0.0], [0.2, 0.1], [-0.2, 0.4]]), atol=1e-6)
    moved = (inputs - model.eps).clamp(0, 1)
    least = [-0.05, 0.0, 0.05] if not clipped else [0.0, 0.0, 0.05]
    expected = [[least[0], -least[0]], [2 * least[1], least[1]], [-least[2], 2 * least[2]]]
    assert torch.allclose(model(moved), torch.tensor(expected), atol=1e-6)
    lead = model.exact_lead(1, moved[1:2], rows[1].radius)
    assert lead == pytest.approx(least[1] - 2 * least[1], abs=1e-6)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({}, "open"),
        ({"a": "sat"}, "broken"),
        ({"a": "unsat"}, "proved robust, by a alone"),
        ({"a": "unsat", "b": "unsat"}, "proved robust, by several tools"),
        ({"a": "unsat", "b": "sat"}, "disputed"),
    ],
)
def test_answers_of_tools_are_told_apart(said, kind):
    assert proofs.kind_of(said) == kind
