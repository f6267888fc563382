"""Legends lie within their figures, whatever attacks and checkpoints are called; panels have most room."""

from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from msgspec import structs

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
    elsewhere = [
        replace(row, case=row.case.of_attack(f"from:standard/{row.attack}"))
        for row in rows
        if row.attack in ("fgsm", "transfer-pgd-20")
    ]
    curves.draw_batch_sizes([*rows, *elsewhere])
    names = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert len({row.attack for row in elsewhere}) == 2
    assert names.count("resubmitted") == 1 and not any(name.startswith("from:") for name in names)


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


def at_two_eps(rows, accuracies):
    """Ensembles at two eps each; accuracies by defence."""
    of = [row for row in rows if row.attack == "ensemble" and row.threat == curves.THREAT]
    for row in of:
        for eps, accuracy in zip((0.1, 0.2), accuracies[row.subject.defence], strict=True):
            case = structs.replace(row.case, perturbation=structs.replace(row.perturbation, eps=eps))
            yield replace(row, case=case, accuracy=accuracy, low=accuracy, high=accuracy)


@pytest.mark.parametrize(("rci", "alone"), [((0.7, 0.3), False), ((0.5, 0.3), True)])
def test_defences_whose_lines_cross_have_panels_of_their_own(run, rci, alone):
    rows = [*at_two_eps(run.rows, {"standard": (0.6, 0.2), "rci": rci})]
    with styled():
        figure = curves.draw_eps(rows).figure
    panels = [panel for panel in figure.axes if panel.get_visible()]
    subjects, checkpoints = ({f(row.subject) for row in rows} for f in (lambda s: s, lambda s: s.checkpoint))
    assert len(panels) == len(subjects if alone else checkpoints)


def test_a_figure_for_a_column_keeps_the_size_of_its_letters():
    run = load_run(REPORTS / "digits-sweep")
    wide, narrow = (
        figures_of(run, opening_of(run), width)[-1].figure for width in (style.WIDTH, style.COLUMN)
    )
    assert (wide.get_figwidth(), narrow.get_figwidth()) == (style.WIDTH, 3.3)
    (legend_of_narrow,) = narrow.legends
    assert {text.get_fontsize() for text in legend_of_narrow.get_texts()} == {8}
    assert legend_of_narrow.get_window_extent().width <= narrow.bbox.width
