"""``csrobust eval``, ``plan``, ``sweep`` and ``screen``: checkpoints behind defences, attacked and reported.

plan says what would run and for how long, sweep goes over batch sizes (Table 10 of arXiv 2510.00253), screen
takes two minutes, the first rungs of the protocol.
"""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from attacks import presets
from robustbench_coded.cli.options import EVAL, SHARED, attacks_option, config_from, option, takes, takes_only
from robustbench_coded.cli.process import foreign_output
from robustbench_coded.cli.run import require_checkpoints, run_evaluation
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.options.option import named_norm
from robustbench_coded.reports.render.sentence import print_line

if TYPE_CHECKING:
    from robustbench_coded.evaluation.session.preview import Preview


# Of the command whose verdicts a pipeline waits for; they are no options of the run.
GATE = {
    "fail_on": option(
        str | None,
        "--fail-on",
        help="Exit with code 3 if any of these verdicts occurs, comma-separated: broken, no-gain, "
        "worse-than-base, claim-refuted, not-settled.",
    ),
    "junit": option(Path | None, "--junit", help="Write the verdicts to this file as JUnit test cases."),
}


@takes(**EVAL, **GATE)
def evaluate_command(
    *,
    config: Path | None,
    quiet: bool,
    as_json: bool,
    fail_on: str | None,
    junit: Path | None,
    **options: Any,
) -> int:
    """Attack checkpoints and defences, and write a report.

    Evaluates each checkpoint with standard inference and with each named defence. The protocol
    (docs/protocol.md) first runs the attacks that usually settle the verdicts. Add --all to run the
    remaining attacks on every example, in the same folder.
    """
    chosen = config_from(**options)
    return run_evaluation(chosen, quiet=quiet, as_json=as_json, fail_on=fail_on, junit=junit)


@takes(**EVAL)
def plan_command(*, config: Path | None, quiet: bool, as_json: bool, **options: Any) -> int:
    """Print the rungs of the protocol that eval would run, and their estimated time.

    Once if every subject falls to its first attack, once if none falls. Takes the options of eval. Nothing is
    written.
    """
    chosen = config_from(**options)
    require_checkpoints(chosen)

    from robustbench_coded.evaluation.session.listener import ProgressListener
    from robustbench_coded.evaluation.session.preview import preview
    from robustbench_coded.reports.text.formatting import duration

    listener = ProgressListener(Console(stderr=True), quiet=quiet or as_json)
    try:
        with foreign_output():
            plan = preview(chosen, say=listener.preparing)
    finally:
        listener.close()
    data = plan.as_data()
    if as_json:
        print(json.dumps(data))
        return 0
    if not quiet:
        for text in plan.notes:
            print_line(Console(stderr=True), text)
        for line in _table(plan):
            print(line)
    for what, costs in (("a negative verdict", plan.negative), ("a positive verdict", plan.positive)):
        total = plan.total(costs)
        print(f"{what} costs {total.images:,} gradients, about {duration(total.seconds)} on this machine")
    print(f"run folder: {plan.path}")
    return 0


def _table(plan: "Preview") -> list[str]:
    """A line for each rung."""
    from robustbench_coded.reports.text.formatting import duration

    cells: list[tuple[str, ...]] = [("rung", "gradients if negative", "time", "if positive", "time")]
    for rung, negative in plan.negative.items():
        positive = plan.positive[rung]
        figures = (
            text
            for cost in (negative, positive)
            for text in (
                f"{cost.images:,}",
                duration(cost.seconds) if cost.seconds >= 1 else "<1 s" if cost.images else "-",
            )
        )
        cells.append((rung, *figures))
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells]


@takes(
    batch_size=(SHARED["batch_size"][0], "8,16,32,64,128"),
    attacks=attacks_option(",".join(presets.SWEEP), [",".join(presets.SWEEP)]),
)
def sweep_command(*, quiet: bool, as_json: bool, **options: Any) -> int:
    """Evaluate a batch-dependent defence at several batch sizes."""
    if not options["rci"] and not options["coded"] and not options["defence"]:
        raise InputError(
            "nothing to sweep; name a defence whose answers depend on the batch, for example --rci N=1.5K"
        )
    return run_evaluation(config_from(**options), quiet=quiet, as_json=as_json)


# The fewest on which a verdict may fall; asked once, it errs least with the fewest random batches.
EXAMPLES = 256
Seconds = Annotated[float, typer.Option("--seconds", metavar="NUMBER", help="Time for all attacks together.")]
# Options of eval that screen decides for itself: left out of its help; those with a value say so when given.
DECIDED = ("attacks", "inputs")
Chosen = Annotated[list[str], typer.Option("--attacks", "--inputs", hidden=True)]


@takes_only(
    *(name for name in SHARED if name not in DECIDED),
    seconds=(Seconds, 120.0),
    limit=(SHARED["limit"][0], EXAMPLES),
    chosen=(Chosen, []),
)
def screen_command(*, quiet: bool, as_json: bool, seconds: float, chosen: list[str], **options: Any) -> int:
    """Run the protocol up to one attack of each adaptive kind, for two minutes.

    It stops cleanly when the time is over; the same command goes on.
    """
    if chosen:
        raise InputError(
            "screen chooses its own attacks and inputs; csrobust eval has --attacks and --inputs"
        )
    if not seconds > 0 or math.isinf(seconds):
        raise InputError(f"--seconds {seconds:g} is no time; give for example 120")
    norm = named_norm(options["norm"], "--norm")
    config = config_from(**options, attacks=[*presets.in_norm(presets.SCREENED, norm)], inputs=[])
    config = replace(
        config,
        victim_attacks=presets.in_norm([presets.TRANSFER], norm),
        relaxed_attacks=presets.in_norm(presets.RELAXED[:1], norm),
        until="settled",
        time=seconds,
    )
    return run_evaluation(config, quiet=quiet, as_json=as_json)
