"""Legends lie within their figures, whatever the attacks and checkpoints are called."""

from dataclasses import replace

import pytest
from matplotlib.figure import Figure

from robustbench_coded.reports.figures import curves, style
from robustbench_coded.reports.figures.style import legend, plot, styled


@pytest.mark.parametrize("length", [4, 20, 60])
def test_names_of_any_length_stay_inside(length, run):
    rows = [row for row in run.rows if row.accuracy is not None][:1]
    with styled():
        figure = Figure(figsize=(7.2, 3), layout="constrained")
        axes = figure.subplots(1, 1)
        for style in range(8):
            plot(axes, [1.0], rows, style, f"{style}" + "m" * length)
        legend(figure, [axes])
        figure.draw_without_rendering()
    (drawn,) = figure.legends
    place, page = drawn.get_window_extent(), figure.bbox
    assert page.x0 <= place.x0 and place.x1 <= page.x1
    assert len(drawn.get_texts()) == 8


def test_submitted_perturbations_have_no_cost_of_their_own(run, drawn):
    row = next(row for row in run.rows if row.attack == "pgd-10" and row.subject.defence != "standard")
    submitted = replace(row, case=row.case.of_attack("from:standard/pgd-10"))
    curves.draw_cost([*run.rows, submitted])
    names = {text.get_text() for text in drawn[0].legends[0].get_texts()}
    assert "pgd-10" in names and not any(name.startswith("from:") for name in names)


def test_losses_are_those_of_one_budget_and_may_be_negative(run, drawn, monkeypatch):
    (row, *_) = [row for row in run.results if row.cell is not None and row.case.attack == "pgd-10"]
    further = replace(row, case=row.case.at_eps(0.9))
    counts = {"loss_0": -4.0, "inputs_0": 2.0, "loss_1": 6.0, "inputs_1": 2.0}
    monkeypatch.setitem(vars(run), "results", [row, further])
    monkeypatch.setattr(type(run), "counts_of", lambda self, key: counts)
    curves.draw_losses(run)
    panel = drawn[0].axes[0]
    (line,) = panel.lines
    assert list(line.get_ydata()) == [-2.0, 3.0]
    assert panel.get_ylim()[0] < -2.0


def test_a_loss_that_is_negative_is_counted_as_it_is(run):
    (row, *_) = [row for row in run.results if row.cell is not None]
    unit = run.units_of(row.case)[0]
    own = run.counts_of(row.case)
    run._read[1][unit] |= {"loss_7": -3.0, "forwards": -5.0}
    changed = run.counts_of(row.case)
    assert changed["loss_7"] == own.get("loss_7", 0.0) - 3.0
    assert changed["forwards"] >= 0


def test_a_figure_says_how_many_it_leaves_out(run, monkeypatch):
    captions = []
    monkeypatch.setattr(style, "drawing", lambda figure, *texts: captions.append(texts[-1]))
    monkeypatch.setattr(style, "MOST_PANELS", 2)
    more = [
        replace(row, case=row.case.of_checkpoint(f"{name}{row.case.subject.checkpoint}"))
        for name in ("", "a", "b")
        for row in run.rows
    ]
    curves.draw_ladder(run.rows)
    curves.draw_ladder(more)
    assert "are shown" not in captions[0]
    assert (
        f"The first 2 of {len({row.case.subject.checkpoint for row in more})} checkpoints are shown."
        in captions[1]
    )
