"""Legends lie within their figures, whatever names there are; curves have the accuracies of the tables."""

from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from robustbench_coded.reports.compare.batch_sizes import sweeps_of
from robustbench_coded.reports.figures import curves, style
from robustbench_coded.reports.figures.curves import draw_curves
from robustbench_coded.reports.figures.style import legend, plot, styled
from robustbench_coded.reports.run.tables import tables_of
from robustbench_coded.reports.write import figures_of
from robustbench_coded.run import load_run
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


def test_accuracies_over_batch_sizes_are_as_attacked_and_in_random_batches(make_run, subject, drawn):
    subjects = [subject("erm"), *(subject("erm", "rci", k, k, random_batches=40) for k in (8, 16, 32))]
    run = load_run(make_run(subjects=subjects))
    (sweep,) = sweeps_of(run)
    assert len([*draw_curves(tables_of(run), [sweep])]) == 2 and len(drawn) == 1  # none over eps
    found = {name: line for (_, name), line in points(drawn[0]).items()}
    every = [row for row in run.results if row.case.subject.k]
    worst = [row for row in every if (row.case.attack, row.case.threat) == (ENSEMBLE, WHOLE_BATCH)]
    attacked = [(row.case.subject.k, 100 * row.cell.correct.mean()) for row in worst]
    assert found["Worst case, as attacked"] == attacked and len(found["Clean"]) == 3
    scored = [(row.case.subject.k, 100 * row.interval().estimate) for row in worst]
    assert found["Worst case, re-batched"] == scored


def test_accuracies_over_eps_begin_with_clean_inputs(run, drawn):
    (table, *_) = tables_of(run)
    half = replace(table, perturbation=Perturbation("linf", 4 / 255, "pixel"))
    (last,) = [i for i, c in enumerate(table.columns) if (c.attack, c.threat) == (ENSEMBLE, WHOLE_BATCH)]
    assert [*draw_curves([table], [])] == [None, None] and not drawn
    assert len([*draw_curves([table, half], [])]) == 2 and len(drawn) == 1
    found = points(drawn[0])
    assert len(found) == len(table.rows)
    for row in table.rows:
        clean, everything = (100 * row.cells[place].figure.as_attacked for place in (0, last))
        assert [(0.0, clean), (4.0, everything), (8.0, everything)] in found.values()
    assert drawn[0].axes[0].get_xlabel() == "eps in 1/255 (linf, pixel)"
