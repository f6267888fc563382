"""What a verification found, for the terminal."""

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from robustbench_coded.reports.text.escape import one_line
from robustbench_coded.verification.verify_run import VerifiedRow


def verification_table(rows: Sequence[VerifiedRow]) -> Group:
    """A block per subject, threat model and eps, a line per attack: accuracies recorded, now and after 8-bit
    rounding; the largest distance as a fraction of eps; what is off."""
    blocks: dict[str, Table] = {}
    for row in rows:
        sizes = "".join(
            f" {name}={value}" for name, value in (("K", row.k), ("N", row.n)) if value is not None
        )
        title = f"{row.checkpoint} | {row.defence}{sizes} | {row.threat} | eps {row.eps:.4g}"
        blocks.setdefault(title, _block(title)).add_row(
            Text(one_line(row.attack)),
            str(row.inputs),
            f"{row.furthest:.4f}",
            _percent(row.recorded),
            _percent(row.accuracy),
            _percent(row.accuracy_8bit),
            Text(one_line(_result(row))),
        )
    return Group(*blocks.values())


def _block(title: str) -> Table:
    table = Table(title=Text(one_line(title)), title_justify="left")
    table.add_column("attack", overflow="fold")  # names stay whole at any width
    for head in ("inputs", "of eps", "recorded", "now", "8-bit"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("result", overflow="fold")
    return table


def _result(row: VerifiedRow) -> str:
    if row.problem:
        return row.problem
    faults = []
    if row.outside:
        faults.append(f"{row.outside} inputs outside eps or box")
    if row.differing:
        faults.append(f"{row.differing} of {row.outcomes} answers differ")
    return "; ".join(faults) or "holds"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"
