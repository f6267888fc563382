"""The paper's figures: what they measure, on functions whose answer is known."""

import csv

import pytest
import torch

from robustbench_coded.errors import InputError
from robustbench_coded.paper.ablations.studies import EpochRecord
from robustbench_coded.paper.figures import drawn
from robustbench_coded.paper.figures.drawn import curve, lemma1, loss, write_figure


def columns(path):
    rows = list(csv.DictReader(path.open()))
    return {name: [row[name] for row in rows] for name in rows[0]}


def test_errors_of_a_smooth_function_fall_faster_than_the_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(drawn, "BATCHES", 2)
    x = torch.rand(2, 16, 1, 2, 2)
    linear = lambda images: images.flatten(1) @ torch.ones(4, 3)  # noqa: E731
    figure = lemma1({"linear": (linear, list(x))})
    write_figure(figure, tmp_path)
    table = columns(tmp_path / "lemma1.csv")
    assert sorted(set(map(int, table["n"])))[::12] == [16, 1024] and set(table["k"]) == {"16"}
    error = {
        (name, int(n)): float(e) for name, n, e in zip(table["function"], table["n"], table["relative_error"])
    }
    # Eight times the points: 8^-3 of the error at most, where there is a second derivative.
    for n in (64, 128):
        assert error["tanh network", 8 * n] < error["tanh network", n] / 8**3
    # What the encoder has bent, a linear function leaves as bent: it is as hard as the curve itself.
    assert 0 < error["linear", 1024] < error["linear", 16] / 64**3
    assert "| linear | -" in (tmp_path / "lemma1.md").read_text()


def test_the_slope_is_that_of_a_power_law():
    assert drawn.slope(drawn.SIZES, [5 * n**-3.5 for n in drawn.SIZES]) == pytest.approx(-3.5)


def test_boundaries_are_measured_and_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(drawn, "RECIPES", ("erm", "coded"))
    figure = drawn.spiral(seeds=1, epochs=25)
    write_figure(figure, tmp_path)
    table = columns(tmp_path / "spiral.csv")
    assert table["recipe"] == ["erm", "coded"]
    assert all(0.5 < float(a) <= 1 for a in table["accuracy"])
    assert all(float(low) <= float(mean) for low, mean in zip(table["margin_smallest"], table["margin_mean"]))
    assert b"</svg>" in figure.drawing.svg
    page = (tmp_path / "spiral.md").read_text()
    accuracy, length, margin = (
        f"{float(table[name][1]):.3f}" for name in ("accuracy", "boundary_length", "margin_mean")
    )
    assert f"| coded | 1 | {accuracy} | {length} | {margin} |" in page and "**Paper.** Figure 1b" in page


def test_a_known_boundary_has_its_length_and_margin():
    class Halves(torch.nn.Module):
        """Class 1 to the right of x = 0."""

        def forward(self, images):
            return torch.stack([-images[:, 0, 0, 0], images[:, 0, 0, 0]], dim=1)

    points = torch.tensor([[0.5, 0.0], [-0.25, 1.0]])
    found = drawn._measured("erm", 0, Halves(), points)
    assert found.boundary_length == pytest.approx(2 * drawn.EXTENT, rel=1e-3)
    assert found.margin_mean == pytest.approx(0.375, abs=0.01)
    assert found.margin_smallest == pytest.approx(0.25, abs=0.01)


def test_loss_curves_are_means_over_seeds(tmp_path):
    rows = [
        EpochRecord("r", recipe, seed, epoch, 1.0, (seed + 1) / epoch, 0.5)
        for recipe in ("erm", "coded")
        for seed in (0, 1)
        for epoch in (1, 2)
    ]
    epochs, mean, deviation = curve(rows[:4])
    assert epochs.tolist() == [1, 2] and mean.tolist() == [1.5, 0.75]
    assert deviation.tolist() == pytest.approx([0.5**0.5, 0.5**0.5 / 2])
    write_figure(loss(rows, where="here"), tmp_path)
    assert len(columns(tmp_path / "loss.csv")["validation_loss"]) == 8
    assert "| coded | 2 | 0.750 ± 0.354 | 0.750 ± 0.354 |" in (tmp_path / "loss.md").read_text()
    with pytest.raises(InputError, match="no validation loss to draw"):
        loss([row._replace(validation_loss=None) for row in rows], where="here")
