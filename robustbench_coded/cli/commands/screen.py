"""``csrobust screen``: two minutes, the most damaging attack first."""

import json
import math
from typing import Annotated, Any

import typer
from rich.console import Console

from robustbench_coded.cli.eval_options import SHARED, config_from, takes_only
from robustbench_coded.cli.lines import print_line
from robustbench_coded.cli.run import evaluated
from robustbench_coded.errors import InputError

# Four batches of 128: enough for an interval that knows about batches, few enough for two minutes.
EXAMPLES = 512
VICTIMS = 16
Seconds = Annotated[float, typer.Option("--seconds", metavar="NUMBER", help="Time for all attacks together.")]
# Options of eval that screen decides for itself: left out of its help; those with a value say so when given.
DECIDED = ("attacks", "inputs", "checks", "peer_raw")
Chosen = Annotated[list[str], typer.Option("--attacks", "--inputs", hidden=True)]


@takes_only(
    *(name for name in SHARED if name not in DECIDED),
    seconds=(Seconds, 120.0),
    limit=(SHARED["limit"][0], EXAMPLES),
    victims=(SHARED["victims"][0], VICTIMS),
    chosen=(Chosen, []),
)
def screen_command(*, quiet: bool, as_json: bool, seconds: float, chosen: list[str], **options: Any) -> int:
    """Run the most damaging attacks first, for two minutes.

    Prints the answer, then one paragraph for each subject, which ends in a verdict.
    """
    if chosen:
        raise InputError(
            "screen chooses its own attacks and inputs; csrobust eval has --attacks and --inputs"
        )
    config = config_from(**options, attacks=["fgsm"], inputs=[])
    from robustbench_coded.results.run import load_run
    from robustbench_coded.session.screen import judged, screen, screening_lines, tried

    if not seconds > 0 or math.isinf(seconds):
        raise InputError(f"--seconds {seconds:g} is no time; give for example 120")
    path, code = evaluated(
        config, lambda listener: screen(config, seconds, listener), silent=quiet or as_json
    )
    if path is None:
        return code
    if as_json:
        run = load_run(path)
        verdicts = [{**j.key.as_columns(), "verdict": j.verdict.word} for j in judged(run)]
        print(json.dumps({"run": str(path), "tried": tried(run), "verdicts": verdicts}))
    else:
        from robustbench_coded.reports.render.terminal import answer

        console = Console()
        console.print(answer(load_run(path)))
        for line in screening_lines(path):
            print_line(console, line)
    return code
