"""Legends lie within their figures, whatever attacks and checkpoints are called; panels have most room."""

from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from robustbench_coded.judge.run import load_run
from robustbench_coded.reports.figures import curves, style
from robustbench_coded.reports.figures.style import legend, plot, styled
from robustbench_coded.reports.run.opening import opening_of
from robustbench_coded.reports.write import figures_of


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


REPORTS = Path(__file__).parents[2] / "reports"
COMMITTED = (
    "cifar10-adversarial",
    *(pytest.param(name, marks=pytest.mark.long) for name in ("digits", "cifar10-resnet20")),
)


@pytest.mark.parametrize("name", ["hostile", "digits-sweep", *COMMITTED])
def test_panels_take_most_of_a_figure_and_nothing_stands_behind_them(name, hostile_run):
    run = load_run(hostile_run if name == "hostile" else REPORTS / name)
    for found in figures_of(run, opening_of(run)):
        panels = {panel.get_window_extent() for panel in found.figure.axes if panel.get_visible()}
        rows = {(round(panel.y0), round(panel.y1)) for panel in panels}
        share = sum(top - bottom for bottom, top in rows) / found.figure.bbox.height
        assert share >= 0.6, f"{found.name} of {name}: {share:.2f}"
        assert b"fill: #ffffff" in found.svg  # opaque: the page's theme and the system's may differ


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
