"""What a verification found, for the terminal."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from robustbench_coded.reports.text.escape import one_line
from robustbench_coded.verification.verify_run import VerifiedRow


def verification_table(rows: Sequence[VerifiedRow]) -> Table:
    """One line per row: accuracies recorded, now and after 8-bit rounding; distances; what is off."""
    table = Table("row", "inputs", "furthest/eps", "recorded", "now", "8-bit", "result")
    for row in rows:
        sizes = "".join(
            f" {name}={value}" for name, value in (("K", row.k), ("N", row.n)) if value is not None
        )
        name = f"{row.checkpoint} | {row.defence}{sizes} | {row.threat} | {row.attack} | eps {row.eps:.4g}"
        table.add_row(
            Text(one_line(name)),
            str(row.inputs),
            f"{row.furthest:.4f}",
            _percent(row.recorded),
            _percent(row.accuracy),
            _percent(row.accuracy_8bit),
            Text(one_line(_result(row))),
        )
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
