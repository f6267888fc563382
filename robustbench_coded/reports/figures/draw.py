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
    lines = [line for line in run.rows if line.attack == "clean" or line.budget in asked]
    with styled():
        drawn = [
            ladder.draw(lines),
            design.draw(run.judgements),
            pareto.draw(lines),
            batch_sizes.draw(lines),
            eps_curve.draw(lines),
            correct_draws.draw(run.results),
            loss_steps.draw(run),
            cost.draw(lines),
            certified.draw(run.certified),
        ]
    return [figure for figure in drawn if figure is not None]
