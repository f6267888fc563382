"""``csrobust eval``, ``plan``, ``sweep`` and ``screen``: checkpoints behind defences, attacked and reported.

plan says what would run, sweep goes over batch sizes (Table 10 of arXiv 2510.00253), screen
takes two minutes, the first rungs of the protocol.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Console

from attacks import presets
from robustbench_coded.cli.parser import AsJson, Quiet, RunFile, config_from, examples, takes
from robustbench_coded.cli.process import foreign_output
from robustbench_coded.cli.run import require_checkpoints, run_evaluation
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.options.config import SCREEN
from robustbench_coded.evaluation.options.config import options as evaluation_options
from robustbench_coded.evaluation.planning.comparisons import FIRST_LOOK
from robustbench_coded.options.option import Option
from robustbench_coded.reports.render.sentence import print_line

if TYPE_CHECKING:
    from robustbench_coded.evaluation.session.preview import Preview


# Of the command whose verdicts a pipeline waits for; they are no options of the run.
FailOn = Annotated[
    str | None,
    Option(
        "Exit with code 3 if any of these verdicts occurs, comma-separated: broken, no-gain (or broken), "
        "worse-than-base, claim-refuted, not-settled."
    ),
]
Junit = Annotated[Path | None, Option("Write the verdicts to this file as JUnit test cases.")]


@examples(
    "csrobust eval --ckpt model.pt --rci N=190",
    "csrobust eval --ckpt digits-erm --data digits --rci N=1.5K --limit 640",
    "csrobust eval --ckpt erm=a.pt --ckpt mixup=b.pt --rci N=128 --attacks paper,transfer-pgd-20",
    "csrobust eval --ckpt model.pt --rci N=190 --eps 0,2/255,4/255,8/255",
    "csrobust eval runs/mine/run.toml --limit 1280 --out runs/more",
    "csrobust eval --ckpt model.pt --defence my_defence:build --claim '72% pgd-10'",
)
@takes()
def evaluate_command(
    *,
    file: RunFile = None,
    fail_on: FailOn = None,
    junit: Junit = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
    **options: Any,
) -> int:
    """Attack checkpoints and defences, and write a report.

    Attacks each network with and without each defence until the verdicts are settled. --all runs
    the remaining attacks on every example, in the same folder. In a test in Python,
    robustbench_coded.assert_accuracy_under_attack is the gate on accuracy.
    """
    config = config_from(**options)
    return run_evaluation(config, quiet=quiet, as_json=as_json, fail_on=fail_on, junit=junit)


@examples("csrobust plan --ckpt model.pt --rci N=190 --limit 640")
@takes()
def plan_command(
    *, file: RunFile = None, quiet: Quiet = False, as_json: AsJson = False, **options: Any
) -> int:
    """Print what eval would run, and what it costs.

    The rungs of the protocol: what always runs, and all that a positive verdict may need. Takes the options
    of eval. Nothing is written.
    """
    chosen = config_from(**options)
    require_checkpoints(chosen)

    from robustbench_coded.evaluation.session.listener import ProgressListener
    from robustbench_coded.evaluation.session.preview import preview

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
    print(f"{sum(plan.least.values()):,} gradients if every subject falls to its first attack")
    print(
        f"{sum(plan.most.values()):,} if none falls; random batches, submissions and checks may add to both"
    )
    print(f"run folder: {plan.path}")
    return 0


def _table(plan: "Preview") -> list[str]:
    """A line for each rung."""
    cells = [("rung", "gradients if all fall", "if none falls")]
    cells += [(str(rung), f"{least:,}", f"{plan.most[rung]:,}") for rung, least in plan.least.items()]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells]


@examples("csrobust sweep --ckpt model.pt --batch-size 8,16,32,64,128 --rci N=1.5K")
@takes(batch_size=(8, 16, 32, 64, 128), attacks=presets.SWEEP)
def sweep_command(
    *,
    file: RunFile = None,
    fail_on: FailOn = None,
    junit: Junit = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
    **options: Any,
) -> int:
    """Evaluate a batch-dependent defence at several batch sizes.

    Says whether its accuracy depends on the batch size. Takes the options of eval.
    """
    if not options["rci"] and not options["coded"] and not options["defence"]:
        raise InputError(
            "nothing to sweep; name a defence whose answers depend on the batch, for example --rci N=1.5K"
        )
    config = config_from(**options)
    return run_evaluation(config, quiet=quiet, as_json=as_json, fail_on=fail_on, junit=junit)


TIME = 120.0
_NOT_OF_SCREEN = ("until", "time", "claim", "attacks", "inputs")


@examples("csrobust screen --ckpt model.pt --rci N=190")
@takes(*(name for name in evaluation_options() if name not in _NOT_OF_SCREEN), limit=FIRST_LOOK, time=TIME)
def screen_command(*, quiet: Quiet = False, as_json: AsJson = False, **options: Any) -> int:
    """Run the protocol up to one attack of each kind, for two minutes.

    It stops cleanly when the time is over; the same command goes on.
    """
    config = config_from(**options, attacks=(SCREEN,), until="settled")
    return run_evaluation(config, quiet=quiet, as_json=as_json)
