"""What a comparison's paired differences settle: where a subject is above its baseline, and where below."""

from robustbench_coded.reports.run.tables import Column, Table
from robustbench_coded.reports.text.formatting import counted, difference_text, settled, subject_text
from robustbench_coded.schema.controls import CLEAN

DIFFERENCES_LEGEND = (
    "Paired differences in points whose 95% interval excludes 0, largest first. Intervals are not adjusted "
    "for their number: if nothing differs, one in twenty excludes 0 by chance. A difference under one "
    "attack shows how far that attack got; the ensemble has the strongest attacks of its threat model."
)


def differences_told(table: Table) -> list[str]:
    """One sentence for each subject that has differences to its baseline.

    Args:
        table: of a comparison; its cells carry the differences.
    """
    told = []
    for row in table.rows:
        found = {
            column: cell.difference
            for column, cell in zip(table.columns, row.cells, strict=True)
            if cell is not None and cell.difference is not None
        }
        if not found:
            continue
        certain = sorted(
            (item for item in found.items() if settled(item[1])), key=lambda item: -abs(item[1].estimate)
        )
        said = []
        for side, sign in (("below", -1), ("above", 1)):
            listed = [
                f"{_column_text(column)} {difference_text(d)}"
                for column, d in certain
                if d.estimate * sign > 0
            ]
            if listed:
                said.append(f"{side} the baseline in {', '.join(listed)}")
        if len(certain) < len(found):
            said.append(f"not distinguishable in {counted(len(found) - len(certain), 'column')}")
        run = f"{row.labels[0]}: " if table.heads[0] == "Run" else ""
        told.append(f"{run}{subject_text(row.subject, with_k=True)}: {'; '.join(said)}.")
    return told


def _column_text(column: Column) -> str:
    return column.attack if column.attack == CLEAN else f"{column.attack} {column.threat}"
