"""``csrobust eval``: checkpoints behind defences, attacked and reported."""

from contextlib import suppress
from dataclasses import replace
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
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.options.until import check_until

SHORTER = (
    "--until settled starts no further attack once nothing can change a verdict; --time 10m keeps to a time"
)

Time = Annotated[
    str | None,
    typer.Option(
        "--time",
        metavar="TEXT",
        help="90s, 30m, 2h: the paper's attacks first, then others on open subjects.",
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

    Every checkpoint is evaluated with standard inference and with each named defence.
    """
    limit = None if time is None else seconds(time, "--time")
    chosen = config_from(claim=claimed_value(claim), claim_eps=claimed_eps(claim_eps), time=limit, **options)
    return run_evaluation(chosen, quiet=quiet, as_json=as_json, advice=_advice(chosen))


def _advice(config: EvalConfig) -> str:
    """What makes the command take less time, where it does nothing of the kind yet."""
    if config.until is None and config.time is None:
        with suppress(InputError):
            check_until(replace(config, until="settled"))
            return SHORTER
    return ""
