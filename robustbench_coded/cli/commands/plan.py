"""``csrobust plan``: what an evaluation would run and about how long it would take, before anything runs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from robustbench_coded.cli.commands.eval_ import Time
from robustbench_coded.cli.eval_options import (
    CLAIM,
    FILE,
    UNTIL,
    claimed_eps,
    claimed_value,
    config_from,
    takes,
)
from robustbench_coded.cli.foreign_output import foreign_output
from robustbench_coded.cli.lines import print_line
from robustbench_coded.cli.values import seconds
from robustbench_coded.models.shipped import all_present

if TYPE_CHECKING:
    from robustbench_coded.session.preview import Preview


@takes(**FILE, **CLAIM, **UNTIL, time=(Time, None))
def plan_command(
    *,
    config: Path | None,
    quiet: bool,
    as_json: bool,
    claim: str | None,
    claim_eps: str | None,
    time: str | None,
    **options: Any,
) -> int:
    """Print what eval would run, and its estimated time.

    Takes the options of eval. Nothing is written.
    """
    limit = None if time is None else seconds(time, "--time")
    chosen = config_from(claim=claimed_value(claim), claim_eps=claimed_eps(claim_eps), time=limit, **options)
    all_present(chosen.checkpoints)

    from robustbench_coded.reports.text.formatting import counted, duration
    from robustbench_coded.session.preview import preview

    with foreign_output():
        found = preview(chosen)
    if as_json:
        print(json.dumps(found.as_data()))
        return 0
    if not quiet:
        _notes(found)
        for line in _table(found):
            print(line)
    done = sum(row.done for row in found.certain)
    finished = f" ({done} done)" if done else ""
    units = counted(sum(row.units for row in found.certain), "unit")
    images = sum(row.images for row in found.certain)
    print(
        f"{len(found.certain)} rows in {units}{finished}: {images:,} images forward and backward, "
        f"about {duration(found.seconds)} on this machine"
    )
    marked, more = len(found.certain) < len(found.rows), found.open_seconds >= 1
    if marked or more:
        what = "rows marked * run only" if marked else "more examples are attacked only"
        most = f"up to {duration(found.open_seconds)} more" if more else "the others then have less time"
        print(f"{what} while a verdict is open: {most}")
    print("not in the sum: what outcomes decide (checks, submissions, random batches)")
    print(f"run folder: {found.path}")
    return 0


def _notes(found: "Preview") -> None:
    console = Console(stderr=True)
    for text in found.notes:
        print_line(console, text)


def _table(found: "Preview") -> list[str]:
    """A line for each row, uncut, for people and for grep."""
    from robustbench_coded.reports.text.formatting import duration
    from robustbench_coded.session.listener import row_name

    cells = [("examples", "images", "time", "row")]
    for p in found.rows:
        taken = "done" if p.done == p.units else duration(p.seconds) if p.seconds >= 1 else "<1 s"
        star = "" if p.certain else "* "
        cells.append((f"{p.examples:,}", f"{p.images:,}", taken, star + row_name(p.row)))
    widths = [max(len(row[i]) for row in cells) for i in range(3)]
    return ["  ".join([*(c.rjust(w) for c, w in zip(row, widths)), row[3]]) for row in cells]
