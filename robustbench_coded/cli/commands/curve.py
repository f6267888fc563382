"""``csrobust curve``: how accuracy falls over eps, steps, draws or repeated queries, with intervals."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustbench_coded.cli.eval_options import attacks_option, config_from, takes
from robustbench_coded.cli.run import evaluated, run_evaluation
from robustbench_coded.errors import InputError

if TYPE_CHECKING:
    from robustbench_coded.results.run import Run

Over = Annotated[str, typer.Option("--over", metavar="TEXT", help="eps, steps, draws or queries.")]
STEPS = (1, 2, 5, 10, 20, 50, 100)
DRAWS = (1, 5, 10, 20, 30)
QUERIES = (1, 2, 5, 10)
# What is shared out over a curve of eps when nothing else is asked for.
EPS_ATTACKS = "pgd-20,transfer-pgd-20"
RADII = "0,1/255,2/255,4/255,8/255,16/255,32/255"


@takes(over=(Over, "eps"), attacks=attacks_option(f"over eps {EPS_ATTACKS}"))
def curve_command(*, over: str, quiet: bool, as_json: bool, **options: Any) -> int:
    """Measure a security curve; the points are rows of an ordinary run, so a run can be extended by one."""
    if over == "eps":
        options["attacks"] = options["attacks"] or [EPS_ATTACKS]
        options["eps"] = options["eps"] or [RADII]
    elif over == "steps":
        options["attacks"] = [f"pgd-{steps},transfer-pgd-{steps}" for steps in STEPS]
    elif over == "draws":
        options["attacks"] = ["pgd-20" if draws == 1 else f"eot{draws}-pgd-20" for draws in DRAWS]
    elif over == "queries":
        return _queries(options, quiet=quiet, as_json=as_json)
    else:
        raise InputError(f"--over {over!r} is not known; choose eps, steps, draws or queries")

    def lines(run: "Run") -> Iterator[str]:
        from robustbench_coded.cli.curve_points import curve_lines

        yield from curve_lines(run.rows, over)

    return run_evaluation(config_from(**options), quiet=quiet, as_json=as_json, more=lines)


def _queries(options: dict[str, Any], *, quiet: bool, as_json: bool) -> int:
    """Accuracy where any of M repeated queries may fail, from the outcomes of one run."""
    from robustbench_coded.evaluation.session.evaluate import evaluate
    from robustbench_coded.reports.text.escape import one_line
    from robustbench_coded.results.run import load_run
    from robustbench_coded.statistics.draws import accuracy_queries

    config = config_from(**options)
    path, code = evaluated(config, lambda listener: evaluate(config, listener), silent=quiet or as_json)
    points = [
        (result.key, tries, accuracy_queries(result.cell, tries))
        for result in (load_run(path).results if path is not None else ())
        if result.cell is not None
        for tries in QUERIES
        if tries <= len(result.cell.draw)
    ]
    if path is not None and as_json:
        columns = ({**key.as_columns(), "queries": tries, "accuracy": left} for key, tries, left in points)
        print(json.dumps(list(columns)))
    elif path is not None:
        for key, tries, left in points:
            name = f"{key.checkpoint} | {key.defence} | {key.threat} | {key.attack}"
            print(one_line(f"{name} | M = {tries}: {100 * left:.1f}%"))
    return code
