"""``csrobust eval``: checkpoints behind defences, attacked and reported."""

from typing import Annotated, Any

import typer

from robustbench_coded.cli.eval_options import claim_value, config_from, takes
from robustbench_coded.cli.run import run_evaluation
from robustbench_coded.cli.values import seconds

Claim = Annotated[str | None, typer.Option("--claim", help="An accuracy that somebody claims, 0.72 or 72%.")]
ClaimAttack = Annotated[
    str | None, typer.Option("--claim-attack", help="The attack that the claim is about.")
]
Time = Annotated[
    str | None,
    typer.Option("--time", help="90s, 30m, 2h: the attacks and examples that fit, most damning first."),
]


@takes(claim=(Claim, None), claim_attack=(ClaimAttack, None), time=(Time, None))
def evaluate_command(
    *, quiet: bool, as_json: bool, claim: str | None, time: str | None, **options: Any
) -> int:
    """Attack checkpoints behind standard inference and other defences, and write a report."""
    limit = None if time is None else seconds(time, "--time")
    config = config_from(claim=claim_value(claim), time=limit, **options)
    return run_evaluation(config, quiet=quiet, as_json=as_json)
