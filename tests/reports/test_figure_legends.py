"""Legends lie within their figures, whatever attacks and checkpoints are called; panels have most room."""

from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from robustbench_coded.judge.run import load_run
from robustbench_coded.reports.figures import curves, style
from robustbench_coded.reports.figures.style import legend, plot, styled
from robustbench_coded.reports.run import tables
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


def test_submitted_perturbations_have_no_cost_of_their_own(run, drawn):
    row = next(row for row in run.rows if row.attack == "pgd-10" and row.subject.defence != "standard")
    submitted = replace(row, case=row.case.of_attack("from:standard/pgd-10"))
    curves.draw_cost([*run.rows, submitted])
    names = [text.get_text() for panel in drawn[0].axes for text in panel.texts]
    assert "pgd-10" in names and not any(name.startswith("from:") for name in names)


REPORTS = Path(__file__).parents[2] / "reports"
COMMITTED = (
    "cifar10-adversarial",
    *(pytest.param(name, marks=pytest.mark.long) for name in ("digits", "cifar10-resnet20", "board-digits")),
)


@pytest.mark.parametrize("name", ["hostile", "digits-sweep", *COMMITTED])
def test_panels_take_most_of_a_figure_and_nothing_stands_behind_them(name, hostile_run):
    run = load_run(hostile_run if name == "hostile" else REPORTS / name)
    for found in figures_of(run, opening_of(run)):
        panels = {panel.get_window_extent() for panel in found.figure.axes if panel.get_visible()}
        rows = {(round(panel.y0), round(panel.y1)) for panel in panels}
        share = sum(top - bottom for bottom, top in rows) / found.figure.bbox.height
        assert share >= 0.6, f"{found.name} of {name}: {share:.2f}"
        assert b"fill: #ffffff" not in found.svg and b"prefers-color-scheme: dark" in found.svg


def test_inputs_perturbed_elsewhere_are_one_line_over_batch_sizes(drawn):
    rows = load_run(REPORTS / "digits-sweep").rows
    curves.draw_batch_sizes(rows)
    names = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert any(row.attack.startswith("from:") for row in rows)
    assert names.count("resubmitted") == 1 and not any(name.startswith("from:") for name in names)


def test_of_attacks_with_a_cost_those_are_named_that_no_cheaper_one_undercuts(drawn):
    rows = load_run(REPORTS / "cifar10-adversarial").rows
    curves.draw_cost(rows)
    (panel,) = drawn[0].axes
    named = {text.get_text() for text in panel.texts}
    attacks = [
        row
        for row in tables.attacked(rows)
        if row.subject.defence != "standard" and row.threat.whole_batch and row.forwards
        if row.perturbation == tables.main_perturbation(rows) and not row.attack.startswith("from:")
    ]
    for row in attacks:
        cheaper = [o for o in attacks if tables.cost(o) <= tables.cost(row) and o is not row]
        below = [o for o in cheaper if o.accuracy <= row.accuracy]
        assert (row.attack in named and not below) or any(o.attack in named for o in below)


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
