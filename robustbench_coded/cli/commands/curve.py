"""``csrobust curve``: how accuracy falls over eps, steps, draws or repeated submissions, with intervals."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustbench_coded.cli.eval_options import attacks_option, config_from, takes
from robustbench_coded.cli.run import evaluated, run_evaluation
from robustbench_coded.errors import InputError

if TYPE_CHECKING:
    from robustbench_coded.cli.curve_points import SubmissionPoint
    from robustbench_coded.results.run import Run

Over = Annotated[str, typer.Option("--over", metavar="TEXT", help="eps, steps, draws or submissions.")]
STEPS = (1, 2, 5, 10, 20, 50, 100)
DRAWS = (1, 5, 10, 20, 30)
SUBMISSIONS = (1, 2, 5, 10, 20, 50, 100)
# What is shared out over a curve of eps when nothing else is asked for.
EPS_ATTACKS = "pgd-20,transfer-pgd-20"
RADII = "0,1/255,2/255,4/255,8/255,16/255,32/255"


@takes(over=(Over, "eps"), attacks=attacks_option(f"over eps {EPS_ATTACKS}"))
def curve_command(*, over: str, quiet: bool, as_json: bool, **options: Any) -> int:
    """Measure accuracy over eps, steps, draws or submissions.

    The points are rows of an ordinary run, so a curve can extend an existing run.
    """
    if over in ("steps", "draws") and options["attacks"]:
        raise InputError(f"--attacks: curve --over {over} chooses its own; leave it out, or use --over eps")
    if over == "eps":
        options["attacks"] = options["attacks"] or [EPS_ATTACKS]
        options["eps"] = options["eps"] or [RADII]
    elif over == "steps":
        options["attacks"] = [f"pgd-{steps},transfer-pgd-{steps}" for steps in STEPS]
    elif over == "draws":
        options["attacks"] = ["pgd-20" if draws == 1 else f"eot{draws}-pgd-20" for draws in DRAWS]
    elif over == "submissions":
        return _submissions(options, quiet=quiet, as_json=as_json)
    else:
        raise InputError(f"--over {over!r} is not known; choose eps, steps, draws or submissions")

    def lines(run: "Run") -> Iterator[str]:
        from robustbench_coded.cli.curve_points import curve_lines

        yield from curve_lines(run.rows, over)

    return run_evaluation(config_from(**options), quiet=quiet, as_json=as_json, more=lines)


def _submissions(options: dict[str, Any], *, quiet: bool, as_json: bool) -> int:
    """Accuracy where any of M submissions may be answered wrongly, from the outcomes of one run."""
    from robustbench_coded.cli.curve_points import submission_lines, submission_points
    from robustbench_coded.results.run import load_run
    from robustbench_coded.session.evaluate import evaluate

    config = config_from(**options)
    path, code = evaluated(config, lambda listener: evaluate(config, listener), silent=quiet or as_json)
    if path is None:
        return code
    points = submission_points(load_run(path).results, SUBMISSIONS)
    if as_json:
        print(json.dumps([_point_as_data(point) for point in points]))
    else:
        for line in submission_lines(points):
            print(line)
    return code


def _point_as_data(point: "SubmissionPoint") -> dict[str, Any]:
    left = point.left
    figures = {"accuracy": left.estimate, "ci_low": left.low, "ci_high": left.high}
    return {**point.key.as_columns(), "submissions": point.submissions, **figures}
