"""``csrobust paper shift``."""

import json
from functools import partial
from typing import Annotated, Any

from robustbench_coded.cli.parser import AsJson, Quiet, config_from, examples, takes
from robustbench_coded.cli.run import evaluated, require_checkpoints
from robustbench_coded.options.option import Option
from robustbench_coded.options.values import counts
from robustbench_coded.reports.text.escape import one_line

_DATA = (
    "Corrupted here: auto, digits, cifar10, npz:FILE ... Read as they are: cifar10c:DIR, cifar10.1:DIR, "
    "cifar10.2:DIR, imagenet-r:DIR. May be repeated."
)
Corruptions = Annotated[str | None, Option("fog,frost ...; all unless given.")]
Severities = Annotated[str, Option("From 1 to 5: 1,3,5.")]


@examples(
    "csrobust paper shift --ckpt digits-erm --ckpt digits-coded --data digits --rci N=1.5K",
    "csrobust paper shift --ckpt erm=a.pt --ckpt coded=b.pt --data cifar10 --data cifar10.1:DIR --limit 1000",
    "csrobust paper shift --ckpt model.pt --data cifar10c:DIR --corruptions fog,frost --severities 3,5",
)
@takes(
    "checkpoints", "arch", "normalize", "rci", "coded", "defence", "standard", "data_dir",
    "limit", "first", "batch_size", "draws", "seed", "device", "threads", "workers", "engine",
    "out", "overwrite",
)  # fmt: skip
def shift_command(
    *,
    data: Annotated[tuple[str, ...], Option(_DATA)] = ("auto",),
    corruptions: Corruptions = None,
    severities: Severities = "1,2,3,4,5",
    quiet: Quiet = False,
    as_json: AsJson = False,
    **options: Any,
) -> int:
    """Measure accuracy under corruptions and covariate shift.

    Nothing is attacked.
    """
    from rich.console import Console

    from robustbench_coded.paper.shift.report import means_table
    from robustbench_coded.paper.shift.run import loaded, sets_named, shift
    from robustbench_coded.reports.render.plain_table import PlainTable

    evaluation = config_from(**options, data=data[0])
    require_checkpoints(evaluation)
    names = tuple(filter(None, map(str.strip, (corruptions or "").split(","))))
    sets = sets_named(evaluation, data, names, counts(severities, "--severities", example="1,3,5"))
    path, code = evaluated(evaluation, partial(shift, evaluation, sets), silent=quiet or as_json)
    if path is None:
        return code
    rows = loaded(path, sets).rows
    if as_json:
        print(json.dumps([figure for row in rows for figure in row.as_data()]))
        return code
    for (images, over), table in means_table(rows).split(2):
        Console().print(
            PlainTable(f"Accuracy under shift: {images}, {over}", table.without_empty(table.heads))
        )
    print(one_line(f"report: {path / 'report.md'}"))
    return code
