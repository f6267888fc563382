"""Legends lie within their figures, whatever names there are; curves have the accuracies of the tables."""

from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from robustbench_coded.judge.run import load_run
from robustbench_coded.reports.figures import curves, style
from robustbench_coded.reports.figures.curves import draw_curves
from robustbench_coded.reports.figures.style import legend, plot, styled
from robustbench_coded.reports.run.tables import tables_of
from robustbench_coded.reports.write import figures_of
from robustbench_coded.schema.case import WHOLE_BATCH, Perturbation
from robustbench_coded.schema.words import ENSEMBLE


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
    "cifar10-resnet20",
    *(pytest.param(name, marks=pytest.mark.long) for name in ("digits", "cifar10-recipes")),
)


@pytest.mark.parametrize("name", ["hostile", "digits-sweep", *COMMITTED])
def test_panels_take_most_of_a_figure_and_nothing_stands_behind_them(name, hostile_run):
    run = load_run(hostile_run if name == "hostile" else REPORTS / name)
    for found in figures_of(run):
        panels = {panel.get_window_extent() for panel in found.figure.axes if panel.get_visible()}
        rows = {(round(panel.y0), round(panel.y1)) for panel in panels}
        share = sum(top - bottom for bottom, top in rows) / found.figure.bbox.height
        assert share >= 0.6, f"{found.name} of {name}: {share:.2f}"
        assert b"fill: #ffffff" in found.svg  # opaque: the page's theme and the system's may differ


def test_the_figure_by_attack_has_the_cells_of_its_table_under_its_names(run, monkeypatch):
    drawn = []
    monkeypatch.setattr(style, "drawing", lambda figure, *texts: drawn.append((figure, texts[-1])))
    monkeypatch.setattr(style, "MOST_PANELS", 2)
    (table, *_) = tables_of(run)
    more = [
        replace(row, subject=row.subject.of_checkpoint(f"{name}{row.subject.checkpoint}"))
        for name in ("", "a", "b")
        for row in table.rows
    ]
    curves.draw_attacks(table)
    curves.draw_attacks(replace(table, rows=tuple(more)))
    assert curves.draw_attacks(replace(table, rows=table.rows[:1])) is None  # the table says as much
    (figure, caption), (_, many) = drawn
    assert "are shown" not in caption and "The first 2 of 3 checkpoints are shown." in many
    (panel,) = figure.axes
    assert [label.get_text() for label in panel.get_yticklabels()] == [c.title for c in table.columns]
    expected = [[100 * cell.figure.as_attacked for cell in row.cells if cell.figure] for row in table.rows]
    assert [list(line.lines[0].get_xdata()) for line in panel.containers] == expected


def points(figure):
    """(panel, line) -> its places and accuracies."""
    return {
        (panel.get_title(), line.get_label()): list(zip(*line.lines[0].get_data(), strict=True))
        for panel in figure.axes
        for line in panel.containers
    }


@pytest.mark.parametrize("ratios", [(1.5,), (1, 1.5)])
def test_accuracies_over_batch_sizes_are_those_of_the_table(ratios, make_run, subject, drawn):
    coded = [subject("erm", "rci", k, int(ratio * k)) for ratio in ratios for k in (8, 16, 32)]
    subjects = [subject("erm"), *coded]
    tables = tables_of(load_run(make_run(subjects=subjects)))
    sweep = next(table for table in tables if "K" in table.heads)
    assert len([*draw_curves(tables)]) == 2 and len(drawn) == 1  # none over eps
    found = points(drawn[0])
    panels = [f", N = {ratio:g}K" for ratio in ratios if len(ratios) > 1] or [""]
    title = "RCI on erm\nlinf, eps 8/255 (pixel)"
    assert {(title + of, name) for of in panels for name in ("Clean", "Worst case")} <= {*found}
    for (title, name), line in found.items():
        place = [column.title for column in sweep.columns].index(name)
        ratio = ratios[panels.index(title.removeprefix("RCI on erm\nlinf, eps 8/255 (pixel)"))]
        rows = [row for row in sweep.rows if row.subject.n == ratio * row.subject.k]
        assert line == [(row.subject.k, 100 * row.cells[place].figure.as_attacked) for row in rows]


def test_accuracies_over_eps_begin_with_clean_inputs(run, drawn):
    (table, *_) = tables_of(run)
    half = replace(table, perturbation=Perturbation("linf", 4 / 255, "pixel"))
    (last,) = [i for i, c in enumerate(table.columns) if (c.attack, c.threat) == (ENSEMBLE, WHOLE_BATCH)]
    assert [*draw_curves([table])] == [None] and not drawn
    assert len([*draw_curves([table, half])]) == 1
    found = points(drawn[0])
    assert len(found) == len(table.rows)
    for row in table.rows:
        clean, everything = (100 * row.cells[place].figure.as_attacked for place in (0, last))
        assert [(0.0, clean), (4.0, everything), (8.0, everything)] in found.values()
    assert drawn[0].axes[0].get_xlabel() == "eps in 1/255 (linf, pixel)"
