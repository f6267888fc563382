"""``csrobust eval``: checkpoints behind defences, attacked and reported."""

from pathlib import Path
from typing import Annotated, Any

import typer

from robustbench_coded.cli.eval_options import (
    CLAIM,
    FILE,
    UNTIL,
    claimed_eps,
    claimed_value,
    config_from,
    takes,
)
from robustbench_coded.cli.run import run_evaluation
from robustbench_coded.cli.values import seconds

Time = Annotated[
    str | None,
    typer.Option(
        "--time",
        metavar="TEXT",
        help="90s, 30m, 2h: open verdicts first, then the table on as many examples as fit.",
    ),
]


@takes(**FILE, **CLAIM, **UNTIL, time=(Time, None))
def evaluate_command(
    *,
    config: Path | None,
    quiet: bool,
    as_json: bool,
    claim: str | None,
    claim_eps: str | None,
    time: str | None,
    **options: Any,
) -> int:
    """Attack checkpoints and defences, and write a report.

    Every checkpoint is evaluated with standard inference and with each named defence. By default that takes
    minutes: first the attacks that settle the verdicts, then a table on as many examples as fit into five
    minutes. --all goes on to every row on every example, in the same folder.
    """
    limit = None if time is None else seconds(time, "--time")
    chosen = config_from(claim=claimed_value(claim), claim_eps=claimed_eps(claim_eps), time=limit, **options)
    return run_evaluation(chosen, quiet=quiet, as_json=as_json)
