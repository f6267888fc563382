"""All figures that a run has data for."""

from robustbench_coded.reports.figures import (
    answer,
    batch_sizes,
    certified,
    correct_draws,
    cost,
    eps_curve,
    ladder,
    loss_steps,
)
from robustbench_coded.reports.figures.style import Drawing, styled
from robustbench_coded.reports.run.opening import Opening
from robustbench_coded.results.run import Run


def figures_of(run: Run, opening: Opening) -> list[Drawing]:
    """The figures of a run, drawn anew, that of its answer first; the same run gives the same bytes."""
    asked = run.manifest.judged_budgets
    rows = [row for row in run.rows if row.attack == "clean" or row.budget in asked]
    with styled():
        drawn = [
            answer.draw(opening),
            ladder.draw(rows),
            batch_sizes.draw(rows),
            eps_curve.draw(rows),
            correct_draws.draw(run.results),
            loss_steps.draw(run),
            cost.draw(rows),
            certified.draw(run.certified),
        ]
    return [figure for figure in drawn if figure is not None]
