"""``csrobust power``: the power of a run's attacks against planted weaknesses."""

import json
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from robustbench_coded.cli import help, process
from robustbench_coded.cli.options import named_paths, takes_only

Folder = Annotated[Path, typer.Argument(help="Run folder with a verdict `no failure found`.")]
Images = Annotated[
    int, typer.Option("--images", min=1, metavar="NUMBER", help="Images that get a weakness, at most.")
]


@help.examples("csrobust power reports/mine")
@takes_only("ckpt", "defence", "arch", "data_dir", "quiet", "as_json", run=(Folder, ...), images=(Images, 32))
def power_command(*, run: Path, images: int, quiet: bool, as_json: bool, **options: Any) -> int:
    """Plant weaknesses and see which of them a run's attacks find.

    Where the verdict is `no failure found`, the same attacks meet the defence with a known weakness in some
    images, one of six kinds at a time. What they find is printed and becomes part of the report.
    """
    from rich.console import Console

    from robustbench_coded.extras.power.measure import measure
    from robustbench_coded.reports.write import write_reports

    console = Console(stderr=True, quiet=quiet)
    with process.foreign_output():
        measured = measure(
            run,
            images=images,
            checkpoints=dict(named_paths(options["ckpt"], "--ckpt")),
            defences=options["defence"],
            arch=options["arch"],
            data_dir=options["data_dir"],
            say=console.print,
        )
        write_reports(run)
    if as_json:
        print(json.dumps(msgspec.to_builtins(measured)))
        return 0
    for power in measured:
        print(f"{power.about}: {power.seen} of {len(power.found)} planted weaknesses were found")
        print(f"  {power.control:>5.0%}  nothing planted, of {power.images} images that stayed right")
        for row in power.found:
            print(f"  {row.share:>5.0%}  {row.weakness} ({row.what})")
    return 0
