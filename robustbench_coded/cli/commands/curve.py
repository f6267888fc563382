"""``csrobust curve``: how accuracy falls over eps, steps, draws or repeated queries, with intervals."""

import json
from typing import Annotated, Any

import typer

from robustbench_coded.cli.eval_options import SHARED, config_from, takes
from robustbench_coded.cli.run import run_evaluation
from robustbench_coded.errors import InputError

Over = Annotated[str, typer.Option("--over", help="eps, steps, draws or queries.")]
STEPS = (1, 2, 5, 10, 20, 50, 100)
DRAWS = (1, 5, 10, 20, 30)
QUERIES = (1, 2, 5, 10)
# What is shared out over a curve of eps when nothing else is asked for.
EPS_ATTACKS = "pgd-20,transfer-pgd-20"
RADII = "0,1/255,2/255,4/255,8/255,16/255,32/255"


@takes(over=(Over, "eps"), attacks=(SHARED["attacks"][0], []))
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
    return run_evaluation(config_from(**options), quiet=quiet, as_json=as_json)


def _queries(options: dict[str, Any], *, quiet: bool, as_json: bool) -> int:
    """Accuracy where any of M repeated queries may fail, from the outcomes of one run."""
    from rich.console import Console

    from robustbench_coded.cli.progress import ProgressListener
    from robustbench_coded.evaluation.session.evaluate import evaluate
    from robustbench_coded.reports.text.escape import one_line
    from robustbench_coded.results.run import load_run
    from robustbench_coded.statistics.draws import accuracy_queries

    listener = ProgressListener(Console(stderr=True), quiet=quiet or as_json)
    try:
        path = evaluate(config_from(**options), listener)
    finally:
        listener.close()
    points = [
        {**row.key._asdict(), "queries": tries, "accuracy": accuracy_queries(row.cell, tries)}
        for row in load_run(path).rows
        if row.cell is not None
        for tries in QUERIES
        if tries <= len(row.cell.draw)
    ]
    if as_json:
        print(json.dumps(points))
    else:
        for p in points:
            name = f"{p['checkpoint']} | {p['defence']} | {p['threat']} | {p['attack']}"
            print(one_line(f"{name} | M = {p['queries']}: {100 * p['accuracy']:.1f}%"))
    return 0
