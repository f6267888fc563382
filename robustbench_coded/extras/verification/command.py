"""``csrobust verify``: perturbed inputs scored again, from the files of a run or of another tool."""

import json
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from robustbench_coded.cli import process
from robustbench_coded.cli.parser import AsJson, config_from, examples, takes
from robustbench_coded.errors import InputError
from robustbench_coded.options.option import Option
from robustbench_coded.reports.text.escape import one_line

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


@examples("csrobust verify reports/mine", "csrobust verify reports/mine --seed 1 --draws 20")
@takes(*SCORED, draws=None, seed=None)
def verify_command(
    run: RunOrEntry = None, *, adversarials: Adversarials = None, as_json: AsJson = False, **options: Any
) -> int:
    """Score perturbed inputs again and check eps and box.

    The inputs come from a run, of which --ckpt, --defence, --arch and --data-dir name what has moved and the
    code that may be loaded; --draws and --seed score them on that many new draws. Or they come from another
    tool: then the options say what is asked about them.
    """
    if run is not None and adversarials is not None:
        raise InputError(f"--adversarials {adversarials} is scored without a run; leave {run} out")
    if run is None and adversarials is None:
        raise InputError("nothing to verify; name a run folder, or --adversarials FILE with --ckpt")
    if run is not None:
        from robustbench_coded.extras.board.submit import ENTRY, entry_opened
        from robustbench_coded.extras.verification.verify_run import verify_run

        entry = entry_opened(run) if (run / ENTRY).is_file() else nullcontext(run)
        with entry as folder, process.foreign_output():
            rows = verify_run(
                folder,
                checkpoints=dict(options["checkpoints"]),
                defences=options["defence"],
                arch=options["arch"],
                data_dir=options["data_dir"],
                draws=options["draws"],
                seed=options["seed"],
            )
    else:
        from robustbench_coded.extras.verification.verify_file import verify_file

        assert adversarials is not None
        config = config_from(**{name: value for name, value in options.items() if value is not None})
        with process.foreign_output():
            rows = verify_file(adversarials, config)
    if as_json:
        print(json.dumps([{**asdict(row), "holds": row.holds} for row in rows]))
    else:
        print("\n".join(one_line(str(row)) for row in rows))
    return 0 if all(row.holds for row in rows) else 1
