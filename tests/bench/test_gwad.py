"""GWAD: similarities of changes in closed form; a detector judges the memory once its window is full."""

import pytest
import torch
from torch import nn

from benchmarks.networks import gwad
from robustbench_coded.errors import InputError


class Network(nn.Module):
    classes = 10

    def forward(self, x):
        return torch.zeros(len(x), 10)


def weights(benign=0.0):
    """A detector that answers 1 for class 2 where every similarity is 1, and ``benign`` for class 0."""
    shapes = list(zip(gwad.WIDTHS[1:], gwad.WIDTHS, strict=False))
    found = {f"fc{i}.weight": torch.zeros(shape) for i, shape in enumerate(shapes, 1)}
    found |= {f"fc{i}.bias": torch.zeros(shape[0]) for i, shape in enumerate(shapes, 1)}
    found["fc1.weight"][0, gwad.BINS] = 1.0
    for layer in range(2, len(shapes)):
        found[f"fc{layer}.weight"][0, 0] = 1.0
    found[f"fc{len(shapes)}.weight"][2, 0], found[f"fc{len(shapes)}.bias"][0] = 1.0, benign
    return found


def line(count):
    """Queries that move on by the same step."""
    step = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)) / 1000
    return 0.2 + torch.arange(count).view(-1, 1, 1, 1) * step


def test_similarities_are_cosines_after_normalisation_and_less_the_mean():
    assert gwad.similarities(line(4)).tolist() == pytest.approx([1, 1], abs=1e-3)
    x = line(3)
    back = torch.stack([x[0], x[2], x[0], x[0]])
    assert gwad.similarities(back).tolist() == pytest.approx([-1, 0], abs=1e-3)
    a, b = torch.zeros(2, 3, 32, 32)
    a[0, 0, 0], b[1, 0, 0] = gwad.STD[0], gwad.STD[1]  # unit changes of two pixels, less 1 / 3072 each
    found = gwad.similarities(torch.stack([torch.zeros(3, 32, 32), a, a + b]))
    assert found.item() == pytest.approx(-1 / 3071, rel=1e-3)


def test_a_histogram_counts_from_minus_one_to_one():
    window = torch.tensor([[-1.0] * 100 + [0.0] * 56 + [1.0] * 100])
    found = gwad.histograms(window)[0]
    assert {i: found[i].item() for i in found.nonzero().flatten().tolist()} == pytest.approx(
        {0: 1, 100: 0.56, 200: 1}
    )


@pytest.mark.parametrize("sizes", [(270,), (100, 100, 70), (257, 1, 12)])
def test_it_rejects_a_straight_line_once_its_window_is_full_however_it_is_batched(sizes):
    defence, rejected = gwad.Gwad(Network(), weights()), []
    for batch in line(270).split(list(sizes)):
        rejected += (defence.logits(batch, None).argmax(1) == 10).tolist()
    assert rejected == [False] * 257 + [True] * 13  # 256 similarities take 258 queries
    defence.reset()
    assert not (defence.logits(line(20), None).argmax(1) == 10).any()


def test_what_is_benign_is_answered_and_missing_weights_are_said(monkeypatch):
    assert not (gwad.Gwad(Network(), weights(2.0)).logits(line(270), None).argmax(1) == 10).any()
    monkeypatch.setenv("GWAD_WEIGHTS", "nowhere.pt")
    with pytest.raises(InputError, match=r"nowhere\.pt is no file"):
        gwad.build(Network())
