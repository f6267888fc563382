"""``csrobust shift``, and what ``csrobust report`` does with its folders."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustbench_coded.cli.help import examples
from robustbench_coded.cli.options import Text, config_from, counts, option, takes_only
from robustbench_coded.cli.run import evaluated
from robustbench_coded.errors import InputError
from robustbench_coded.reports.text.escape import one_line

if TYPE_CHECKING:
    from robustbench_coded.paper.shift.answers import ShiftRun

_DATA = (
    "Corrupted here: auto, digits, cifar10, npz:FILE ... Read as they are: cifar10c:DIR, cifar10.1:DIR, "
    "cifar10.2:DIR, imagenet-r:DIR. May be repeated."
)
OWN = {
    "data": option(list[str], "--data", help=_DATA, default=["auto"]),
    "corruptions": option(Text, "--corruptions", help="fog,frost ...; all unless given."),
    "severities": option(str, "--severities", help="From 1 to 5: 1,3,5.", default="1,2,3,4,5"),
    "baseline": option(Text, "--baseline", help="Checkpoint to compare the others with."),
}


@examples(
    "csrobust shift --ckpt digits-erm --ckpt digits-coded --data digits --rci N=1.5K",
    "csrobust shift --ckpt erm=a.pt --ckpt coded=b.pt --data cifar10 --data cifar10.1:DIR --limit 1000",
    "csrobust shift --ckpt model.pt --data cifar10c:DIR --corruptions fog,frost --severities 3,5",
)
@takes_only(
    "ckpt", "arch", "normalize", "rci", "coded", "defence", "standard", "data_dir",
    "limit", "first", "batch_size", "draws", "seed", "device", "threads", "workers", "engine",
    "out", "overwrite", "quiet", "as_json",
    **OWN,
)  # fmt: skip
def shift_command(
    *,
    data: list[str],
    corruptions: str | None,
    severities: str,
    baseline: str | None,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Measure accuracy under corruptions and covariate shift.

    Nothing is attacked.
    """
    from robustbench_coded.paper.shift.answers import load_shift
    from robustbench_coded.paper.shift.run import ShiftConfig, shift

    if not data:
        raise InputError("--data: name a data set")
    evaluation = config_from(**options, attacks=[], eps=[], inputs=[], data=data[0])
    config = ShiftConfig(
        evaluation=evaluation,
        data=tuple(dict.fromkeys(data)),
        corruptions=tuple(dict.fromkeys(filter(None, map(str.strip, (corruptions or "").split(","))))),
        severities=tuple(sorted(set(counts(severities, "--severities", example="1,3,5")))),
        baseline=baseline,
    )
    path, code = evaluated(evaluation, lambda listener: shift(config, listener), silent=quiet or as_json)
    if path is None:
        return code
    print_shift(load_shift(path), quiet=False, as_json=as_json)
    return code


def report(path: Path, *, quiet: bool, as_json: bool) -> int:
    """`csrobust report` of a folder of ours."""
    from robustbench_coded.paper.shift.report import write_shift_report

    return print_shift(write_shift_report(path), quiet=quiet, as_json=as_json)


def print_shift(run: "ShiftRun", *, quiet: bool, as_json: bool) -> int:
    """The means of a run: as one object, as a table, or not at all."""
    from rich.console import Console

    from robustbench_coded.paper.shift.tables import means_table, rows_of
    from robustbench_coded.reports.render.plain_table import PlainTable

    rows = rows_of(run) if as_json or not quiet else []
    if as_json:
        print(json.dumps([row.as_data() for row in rows]))
    elif not quiet:
        for (images, over), table in means_table(rows).split(2):
            shown = table.without_empty(table.heads)
            Console().print(PlainTable(f"Accuracy under shift: {images}, {over}", shown))
        print(one_line(f"report: {run.path / 'report.md'}"))
    return 0
