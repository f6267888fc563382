"""Weights that others published: architectures, and what `reports/outside` counts of their page."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.errors import outside
from benchmarks.peers import published_networks as networks
from benchmarks.peers import published_truth as known
from benchmarks.peers import published_weights as weights
from benchmarks.peers import synthesis

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
    by_norm = {image.norm: image for image in known.IMAGES if image.number == 73}
    assert by_norm["l0"].eps == 2
    assert by_norm["l1"].eps == pytest.approx(9 / 255, rel=1e-4) and by_norm["l1"].eps > 9 / 255
    assert by_norm["l2"].eps == pytest.approx(27**0.5 / 255, rel=1e-4)
    assert by_norm["linf"].eps == pytest.approx(4 / 255, rel=1e-4)


def test_absent_and_changed_files_are_named_with_their_place(tmp_path):
    (tmp_path / "advertorch").mkdir()
    (tmp_path / known.PLAIN).write_bytes(b"other weights")
    lines = list(weights.missing(tmp_path))
    assert len(lines) == len(known.FILES)
    assert f"{known.PLAIN}: advertorch_examples/trained_models of BorealisAI/advertorch e063e34" in lines


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
    pages = {"networks": [dict(zip(head, values, strict=True))], "images": [], "claims": []}
    monkeypatch.setattr(outside, "rows", lambda page, name: pages[name])
    (judged,) = outside.published()
    assert (judged.truth, judged.missed) == (truth, missed)


def test_images_broken_below_their_least_change_are_misses(monkeypatch):
    image = {"image": "mnist 7", "norm": "linf", "broken at it": "no", "broken one pixel value below": "yes"}
    pages = {"networks": [], "images": [image], "claims": []}
    monkeypatch.setattr(outside, "rows", lambda page, name: pages[name])
    at, below = outside.published()
    assert at.missed and below.missed and (at.says, below.says) == ("open", "broken")


def keras_arrays(probability):
    """Arrays of the LWTA network in their order, with this logit of a stick in the last layer."""
    rng = np.random.default_rng(0)
    arrays, inside = [], 3
    for planes in (32, 64, 128):
        for size, norm in ((5 if planes == 32 else 3, True), (5 if planes == 32 else 3, True), (3, False)):
            arrays += [rng.normal(size=(size, size, inside, planes)) / (size * inside**0.5), np.zeros(planes)]
            arrays += [np.ones(planes), np.zeros(planes), np.zeros(planes), np.ones(planes)] if norm else []
            inside = planes
    for shape in ((2048, 128), (128, 64)):
        arrays += [rng.normal(size=shape) / shape[0] ** 0.5, np.zeros(shape[1])]
    stay = np.full((64, 5), probability)
    stay[:, 2] = -10  # below the threshold that cuts connections
    return [*arrays, np.ones((64, 10)), np.ones((64, 10)), np.ones(5), np.ones(5), stay, np.arange(10.0)]


def test_connections_of_the_last_layer_are_scaled_or_cut(tmp_path):
    (tmp_path / "net.pkl").write_bytes(pickle.dumps(keras_arrays(0.0), protocol=3))
    model = networks.lwta_sbp(tmp_path / "net.pkl")
    expected = torch.full((10, 64), 0.5)
    expected[[2, 7]] = 0  # a stick is that of units i and i + 5
    torch.testing.assert_close(model.network[-1].weight, expected)
    with torch.no_grad():
        assert model(torch.rand(2, 3, 32, 32)).shape == (2, 10)


def test_strides_of_tensorflow_begin_at_the_upper_left_pixel():
    padded = networks.Halved()(torch.ones(1, 1, 4, 4))
    assert padded.shape == (1, 1, 5, 5)
    assert (
        float(padded[0, 0, :4, :4].min()) == 1
        and float(padded[0, 0, 4].sum() + padded[0, 0, :, 4].sum()) == 0
    )


def test_pickles_that_name_another_class_are_refused(tmp_path):
    (tmp_path / "net.pkl").write_bytes(pickle.dumps([Path("x")]))
    with pytest.raises(pickle.UnpicklingError, match="is no array"):
        networks.lwta_sbp(tmp_path / "net.pkl")


def test_a_refuted_claim_needs_an_explanation_and_is_no_truth(monkeypatch, tmp_path):
    """A claim of chance is the truth of a broken network; one of another model is none."""
    words = ("claim refuted", "no failure found", "not settled", "claim refuted", "claim refuted")
    chosen = [*known.CLAIMS[:4], next(claim for claim in known.CLAIMS if claim.of)]
    for claim, word in zip(chosen, words, strict=True):
        row = weights.Row(claim.name, word, 128, 0.84, 0.1, 0.15, 0.2, 9.0)
        (tmp_path / f"{claim.name.replace(' ', '-')}.json").write_text(json.dumps(weights.asdict(row)))
    head, *lines = weights.claim_table(tmp_path)
    assert [line[1] for line in lines] == [
        "linf, 8/255", "linf, 8/255 of normalised pixels", "linf, 8/255", "linf, 0.3", "linf, 0.3",
    ]  # fmt: skip
    pages = {"networks": [], "images": [], "claims": [dict(zip(head, line, strict=True)) for line in lines]}
    monkeypatch.setattr(outside, "rows", lambda page, name: pages[name])
    judged = list(outside.published())
    assert [one.missed for one in judged] == [True, False, False, False, False]
    assert [one.truth for one in judged] == ["claimed"] * 3 + ["broken", "undecided"]


@pytest.fixture(scope="module")
def small_synthesis():
    """Three random decoders and 40 prototypes."""
    torch.manual_seed(0)
    shapes = [(8, 4, 4, 4), (4, 3, 5, 5), (3, 3, 5, 5), (3, 1, 4, 4)]
    parts = [[(0.3 * torch.randn(s), 0.1 * torch.randn(s[1])) for s in shapes] for _ in range(3)]
    decoders = synthesis.Decoders(parts).double()

    def build(steps, scales=None):
        return synthesis.Synthesis(decoders, torch.randn(40, 8).double(), steps, scales)

    return build


def test_steps_in_latents_lower_each_bound(small_synthesis):
    x = torch.rand(4, 1, 28, 28).double()
    torch.manual_seed(1)
    begun = small_synthesis(1)
    torch.manual_seed(1)
    fitted = small_synthesis(10)
    assert bool((fitted(x) > begun(x)).all())
    images, _ = begun.decoders(begun.prototypes[:, None].expand(-1, 3, -1))
    distances = [synthesis.bounds(images, begun.prototypes[:, None], one[None]) for one in x]
    torch.testing.assert_close(-begun(x), torch.stack([d.amin(0) for d in distances]))


def test_derivatives_in_latents_are_those_of_autograd(small_synthesis):
    decoders = small_synthesis(1).decoders
    z, x = torch.randn(2, 3, 8).double().requires_grad_(), torch.rand(2, 1, 28, 28).double()
    images, activations = decoders(z)
    slope = 2 * (images - x) * images * (1 - images)
    (expected,) = torch.autograd.grad((images - x).square().sum(), z)
    torch.testing.assert_close(decoders.pull_back(slope, activations), expected)


def test_the_gradient_given_is_the_slope_of_a_converged_answer(small_synthesis):
    """Differences of answers, whose latents are fitted anew."""
    model = small_synthesis(150)
    x = torch.rand(1, 1, 28, 28).double()
    direction, h = torch.randn(1, 1, 28, 28).double(), 1e-3
    with torch.no_grad():
        difference = (model(x + h * direction) - model(x - h * direction)) / (2 * h)
    leaf = x.requires_grad_()
    slopes = [(torch.autograd.grad(answer, leaf, retain_graph=True)[0] * direction).sum()
              for answer in model(leaf)[0]]  # fmt: skip
    torch.testing.assert_close(torch.stack(slopes), difference[0], rtol=1e-3, atol=1e-7)
