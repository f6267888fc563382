"""The figure of the first screen: its figures stand beside their bars and never over names."""

from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from robustbench_coded.judge.run import load_run
from robustbench_coded.reports.figures import style
from robustbench_coded.reports.figures.curves import draw_answer
from robustbench_coded.reports.run.opening import opening_of

REPORTS = Path(__file__).parents[2] / "reports"


@pytest.mark.parametrize("name", ["rci/erm-attackers-2-255", "cifar10-adversarial", "digits"])
def test_no_figure_of_a_bar_reaches_over_the_names_beside_the_axis(name):
    with style.styled():
        drawn = draw_answer(opening_of(load_run(REPORTS / name)))
    (axes,) = drawn.figure.axes
    FigureCanvasAgg(drawn.figure).draw()
    left = axes.get_window_extent().x0
    assert len(axes.texts) == len(axes.get_yticklabels()) == 3
    assert min(text.get_window_extent().x0 for text in axes.texts) > left
    assert max(label.get_window_extent().x1 for label in axes.get_yticklabels()) < left
