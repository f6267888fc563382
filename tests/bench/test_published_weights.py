"""Weights that others published: architectures, and what `reports/outside` counts of their page."""

import json

import numpy as np
import pytest
import torch

from benchmarks.errors import outside
from benchmarks.peers import published_networks as networks
from benchmarks.peers import published_weights as weights

ROW = ("net", "linf, 0.1", "256", "{published}", "{by}", "98%", "90% (80 to 95)", "`{word}`", "{side}", "3")
SHAPES = {"conv1": (4, 4, 1, 16), "conv2": (4, 4, 16, 32), "fc1": (1568, 100), "fc2": (100, 10)}


def test_weights_of_tensorflow_meet_the_pixels_that_they_were_trained_on(tmp_path):
    """A unit of the first linear layer sees the channels of one place beside each other."""
    savemat = pytest.importorskip("scipy.io").savemat
    arrays = {f"weights_{name}": np.zeros(shape) for name, shape in SHAPES.items()}
    arrays |= {f"biases_{name}": np.zeros((1, shape[-1])) for name, shape in SHAPES.items()}
    arrays["weights_conv1"][1, 1] = arrays["weights_conv2"][1, 1, :, :] = 1 / 16
    place = 5 * 7 + 2  # row 5, column 2 of 7 x 7
    arrays["weights_fc1"][32 * place : 32 * (place + 1), 0] = 1
    arrays["weights_fc2"][0, 3] = 1
    savemat(tmp_path / "net.mat", arrays)
    x = torch.zeros(2, 1, 28, 28)
    x[0, 0, 4 * 5 : 4 * 5 + 4, 4 * 2 : 4 * 2 + 4] = 1
    x[1, 0, 4 * 2 : 4 * 2 + 4, 4 * 5 : 4 * 5 + 4] = 1
    with torch.no_grad():
        answers = networks.mmr_universal(tmp_path / "net.mat")(x)
    assert answers[0, 3] > 0 and float(answers[1].abs().max()) == 0


def test_radii_of_images_are_those_at_which_their_answers_change():
    by_norm = {image.norm: image for image in weights.IMAGES if image.number == 73}
    assert by_norm["l0"].eps == 2
    assert by_norm["l1"].eps == pytest.approx(9 / 255, rel=1e-4) and by_norm["l1"].eps > 9 / 255
    assert by_norm["l2"].eps == pytest.approx(27**0.5 / 255, rel=1e-4)
    assert by_norm["linf"].eps == pytest.approx(4 / 255, rel=1e-4)


def test_absent_and_changed_files_are_named_with_their_place(tmp_path):
    (tmp_path / "advertorch").mkdir()
    (tmp_path / weights.PLAIN).write_bytes(b"other weights")
    lines = list(weights.missing(tmp_path))
    assert len(lines) == len(weights.FILES)
    assert f"{weights.PLAIN}: advertorch_examples/trained_models of BorealisAI/advertorch e063e34" in lines


@pytest.mark.parametrize(
    ("least", "most", "side"), [(0.90, 0.94, "below"), (0.93, 0.97, "agrees"), (0.97, 0.99, "above")]
)
def test_an_interval_that_misses_the_published_accuracy_is_no_agreement(tmp_path, least, most, side):
    row = weights.Row("WK17a", "no failure found", 256, 0.98, least, (least + most) / 2, most, 1.0)
    (tmp_path / "WK17a.json").write_text(json.dumps(weights.asdict(row)))
    _, line = weights.network_table(tmp_path)
    assert line[8] == side and line[3] == "95.6%"


@pytest.mark.parametrize(
    ("published", "by", "word", "side", "truth", "missed"),
    [
        ("95.6%", "MIP", "no failure found", "agrees", "robust", False),
        ("95.6%", "MIP", "broken", "below", "robust", True),
        ("95.6%", "MIP", "not settled", "above", "robust", True),
        ("0.0 to 49.3%", "DDN", "broken", "agrees", "undecided", False),
        ("0.0%", "PGD", "not settled", "agrees", "broken", True),
    ],
)
def test_published_figures_are_counted_by_what_they_prove(
    monkeypatch, published, by, word, side, truth, missed
):
    (head,) = weights.network_table(weights.PAGE.parent / "nowhere")
    values = [cell.format(published=published, by=by, word=word, side=side) for cell in ROW]
    pages = {"networks": [dict(zip(head, values, strict=True))], "images": []}
    monkeypatch.setattr(outside, "rows", lambda page, name: pages[name])
    (judged,) = outside.published()
    assert (judged.truth, judged.missed) == (truth, missed)


def test_images_broken_below_their_least_change_are_misses(monkeypatch):
    image = {"image": "mnist 7", "norm": "linf", "broken at it": "no", "broken one pixel value below": "yes"}
    pages = {"networks": [], "images": [image]}
    monkeypatch.setattr(outside, "rows", lambda page, name: pages[name])
    at, below = outside.published()
    assert at.missed and below.missed and (at.says, below.says) == ("open", "broken")
