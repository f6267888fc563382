"""``csrobust verify``: perturbed inputs scored again, from the files of a run or of another tool."""

import json
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from robustbench_coded.cli import parser, process
from robustbench_coded.cli.parser import AsJson, config_from, examples, takes
from robustbench_coded.errors import LOG, InputError
from robustbench_coded.options.option import Option
from robustbench_coded.reports.text.escape import one_line
from robustbench_coded.runs.folder import stores_inputs

SCORED = (
    "checkpoints", "rci", "coded", "defence", "data", "data_dir", "batch_size", "eps", "norm", "draws",
    "seed", "arch", "normalize",
)  # fmt: skip
RunOrEntry = Annotated[
    Path | None, Option("Run folder made with --save-adversarials, or entry of the board.", positional=True)
]
Adversarials = Annotated[
    Path | None,
    Option("Perturbed inputs from another tool: .npz, .npy or .pt."),
]

# What may be said of a run: where its files are now, and the draws that score it again.
MOVED = ("checkpoints", "defence", "arch", "data_dir", "draws", "seed")


@examples("csrobust verify runs/mine", "csrobust verify runs/mine --seed 1 --draws 20")
@takes(*SCORED, draws=None, seed=None)
def verify_command(
    run: RunOrEntry = None, *, adversarials: Adversarials = None, as_json: AsJson = False, **options: Any
) -> int:
    """Score inputs again, check eps and box, and compare the reports of a run with its outcomes.

    The inputs come from a run, of which --ckpt, --defence, --arch and --data-dir name what has moved and the
    code that may be loaded; --draws and --seed score them on that many new draws. Or they come from another
    tool: then the options say what is asked about them.
    """
    if (run is None) == (adversarials is None):
        raise InputError("verify takes either a run folder or --adversarials FILE with --ckpt")
    rows: list[Any] = []
    if run is not None:
        for name, known in parser.options().items():
            if name in options and name not in MOVED and options[name] != known.default:
                raise InputError(f"--{known.word}: the run says it; leave it out, or name --adversarials")
        from robustbench_coded.extras.board.submit import ENTRY, entry_opened
        from robustbench_coded.extras.verification.verify_reports import verify_reports
        from robustbench_coded.extras.verification.verify_run import verify_run
        from robustbench_coded.judge.run import run_data

        entry = entry_opened(run) if (run / ENTRY).is_file() else nullcontext(run)
        with entry as folder, process.foreign_output():
            reports = verify_reports(run_data(folder))
            if not all(report.missing for report in reports) and not stores_inputs(folder):
                LOG.warning(
                    f"{run} stores no perturbed inputs (--save-adversarials): no answer is scored again"
                )
            else:
                rows += verify_run(
                    folder,
                    checkpoints=dict(options["checkpoints"]),
                    defences=options["defence"],
                    **{name: options[name] for name in MOVED[2:]},
                )
            rows += reports
    else:
        from robustbench_coded.extras.verification.verify_file import verify_file

        assert adversarials is not None
        config = config_from(**{name: value for name, value in options.items() if value is not None})
        with process.foreign_output():
            rows += verify_file(adversarials, config)
    text = "\n".join(one_line(str(row)) for row in rows)
    print(json.dumps([{**asdict(row), "holds": row.holds} for row in rows]) if as_json else text)
    return 0 if all(row.holds for row in rows) else 1
