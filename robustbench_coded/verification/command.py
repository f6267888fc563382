"""``csrobust verify``: perturbed inputs scored again, from the files of a run or of another tool."""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_coded.cli.eval_options import config_from
from robustbench_coded.cli.help import examples
from robustbench_coded.cli.options import AsJson, DataDirText, named_paths
from robustbench_coded.cli.process import foreign_output
from robustbench_coded.errors import InputError
from robustbench_coded.plugins import all_of

if TYPE_CHECKING:
    from robustbench_coded.verification.verify_run import VerifiedRow

Ckpt = Annotated[list[str] | None, typer.Option("--ckpt", help="Checkpoint, PATH or NAME=PATH.")]
Defences = Annotated[
    list[str] | None,
    typer.Option(
        "--defence", help="Defence code that may be loaded; with --adversarials: the defence to score."
    ),
]


@examples("csrobust verify reports/mine")
def verify_command(
    run: Annotated[
        Path | None, typer.Argument(help="Run folder made with --save-adversarials, or entry of the board.")
    ] = None,
    adversarials: Annotated[
        Path | None,
        typer.Option("--adversarials", help="Perturbed inputs from another tool: .npz, .npy or .pt."),
    ] = None,
    ckpt: Ckpt = None,
    rci: Annotated[list[str] | None, typer.Option("--rci", help="With --adversarials: N=190 ...")] = None,
    coded: Annotated[list[str] | None, typer.Option("--coded", help="With --adversarials: N=190 ...")] = None,
    defence: Defences = None,
    data: Annotated[str, typer.Option("--data", help="With --adversarials: the clean images.")] = "auto",
    data_dir: DataDirText = None,
    batch_size: Annotated[int, typer.Option("--batch-size", help="With --adversarials: K.")] = 128,
    eps: Annotated[
        str | None, typer.Option("--eps", help="With --adversarials: the radius to check.")
    ] = None,
    norm: Annotated[str, typer.Option("--norm", help="With --adversarials: linf, l2 or l1.")] = "linf",
    draws: Annotated[int, typer.Option("--draws", help="With --adversarials: scoring draws.")] = 10,
    seed: Annotated[int, typer.Option("--seed", help="With --adversarials: names the draws.")] = 0,
    arch: Annotated[str | None, typer.Option("--arch", help="Architecture code that may be loaded.")] = None,
    normalize: Annotated[str | None, typer.Option("--normalize", help="With --adversarials.")] = None,
    as_json: AsJson = False,
) -> int:
    """Score perturbed inputs again and check eps and box.

    The inputs come from a run or from another tool.
    """
    if run is not None and adversarials is not None:
        raise InputError(f"--adversarials {adversarials} is scored without a run; leave {run} out")
    if run is None and adversarials is None:
        raise InputError("nothing to verify; name a run folder, or --adversarials FILE with --ckpt")
    if run is not None:
        from robustbench_coded.verification.verify_run import verify_run

        entries = (opened(run) for opened in all_of("entries").values())
        entry = next((entry for entry in entries if entry is not None), nullcontext(run))
        with entry as folder, foreign_output():
            rows: Sequence[VerifiedRow] = verify_run(
                folder,
                checkpoints=dict(named_paths(ckpt or [], "--ckpt")),
                defences=defence or (),
                arch=arch,
                data_dir=data_dir,
            )
    else:
        from robustbench_coded.verification.verify_file import verify_file

        assert adversarials is not None
        config = config_from(
            ckpt=ckpt or [], rci=rci or [], coded=coded or [], defence=defence or [], attacks=[],
            batch_size=str(batch_size),
            eps=[eps] if eps else [], inputs=[], limit=None, draws=draws, selection_draws=1, data=data,
            data_dir=data_dir, norm=norm, seed=seed, arch=arch, normalize=normalize,
        )  # fmt: skip
        with foreign_output():
            rows = verify_file(adversarials, config)
    if as_json:
        print(json.dumps([row.as_data() for row in rows]))
    else:
        from rich.console import Console

        from robustbench_coded.verification.verify_run import verification_table

        Console().print(verification_table(rows))
    return 0 if all(row.holds for row in rows) else 1
