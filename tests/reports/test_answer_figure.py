"""The figure of the first screen: names to the left of the axis, figures to the right of it."""

from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from robustbench_coded.judge.run import load_run
from robustbench_coded.reports.figures import style
from robustbench_coded.reports.figures.curves import draw_answer
from robustbench_coded.reports.run.opening import opening_of

REPORTS = Path(__file__).parents[2] / "reports"


@pytest.mark.parametrize("name", ["cifar10-resnet20", "cifar10-recipes", "digits"])
def test_names_stand_left_of_the_axis_and_figures_right_of_it(name):
    rows = opening_of(load_run(REPORTS / name)).rows
    with style.styled():
        drawn = draw_answer(rows)
    (axes,) = drawn.figure.axes
    FigureCanvasAgg(drawn.figure).draw()
    box = axes.get_window_extent()
    assert len(axes.texts) == len(axes.get_yticklabels()) == len(rows)
    assert box.width > drawn.figure.bbox.width / 4
    assert min(text.get_window_extent().x0 for text in axes.texts) > box.x1
    assert max(text.get_window_extent().x1 for text in axes.texts) <= drawn.figure.bbox.x1
    assert max(label.get_window_extent().x1 for label in axes.get_yticklabels()) < box.x0
