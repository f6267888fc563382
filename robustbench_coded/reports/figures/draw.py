"""All figures that a run has data for."""

from robustbench_coded.reports.figures import (
    batch_sizes,
    certified,
    correct_draws,
    cost,
    design,
    eps_curve,
    ladder,
    loss_steps,
    pareto,
)
from robustbench_coded.reports.figures.style import Drawing, styled
from robustbench_coded.results.run import Run


def figures_of(run: Run) -> list[Drawing]:
    """The figures of a run, drawn anew; the same run gives the same bytes."""
    asked = run.manifest.judged_budgets
    rows = [row for row in run.rows if row.attack == "clean" or row.budget in asked]
    with styled():
        drawn = [
            ladder.draw(rows),
            design.draw(run.judgements),
            pareto.draw(rows),
            batch_sizes.draw(rows),
            eps_curve.draw(rows),
            correct_draws.draw(run.results),
            loss_steps.draw(run),
            cost.draw(rows),
            certified.draw(run.certified),
        ]
    return [figure for figure in drawn if figure is not None]
