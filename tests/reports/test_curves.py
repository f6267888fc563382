"""Curves over eps and batch size have the accuracies of the tables, and a run without a sweep has none."""

from dataclasses import replace

from robustbench_coded.judge.run import load_run
from robustbench_coded.reports.figures.curves import draw_curves
from robustbench_coded.reports.run.tables import tables_of
from robustbench_coded.schema.case import WHOLE_BATCH, Perturbation
from robustbench_coded.schema.words import ENSEMBLE


def points(figure):
    """(panel, line) -> its places and accuracies."""
    return {
        (panel.get_title(), line.get_label()): list(zip(*line.lines[0].get_data(), strict=True))
        for panel in figure.axes
        for line in panel.containers
    }


def test_accuracies_over_batch_sizes_are_those_of_the_table(make_run, subject, drawn):
    subjects = [subject("erm"), *(subject("erm", "rci", k, 3 * k // 2) for k in (8, 16, 32))]
    tables = tables_of(load_run(make_run(subjects=subjects)))
    sweep = next(table for table in tables if "K" in table.heads)
    assert len([*draw_curves(tables)]) == 2 and len(drawn) == 1  # none over eps
    found = points(drawn[0])
    assert {("RCI on erm\nlinf, eps 8/255 (pixel)", name) for name in ("Clean", "All attacks")} <= {*found}
    for (_, name), line in found.items():
        place = [column.title for column in sweep.columns].index(name)
        rows = [(row.subject.k, 100 * row.cells[place].line.accuracy) for row in sweep.rows]
        assert line == rows


def test_accuracies_over_eps_begin_with_clean_inputs(run, drawn):
    (table,) = tables_of(run)
    half = replace(table, perturbation=Perturbation("linf", 4 / 255, "pixel"))
    last = table.columns.index((ENSEMBLE, WHOLE_BATCH))
    assert [*draw_curves([table])] == [None] and not drawn
    assert len([*draw_curves([table, half])]) == 1
    found = points(drawn[0])
    assert len(found) == len(table.rows)
    for row in table.rows:
        clean, everything = (100 * row.cells[place].line.accuracy for place in (0, last))
        assert [(0.0, clean), (4.0, everything), (8.0, everything)] in found.values()
    assert drawn[0].axes[0].get_xlabel() == "eps in 1/255 (linf, pixel)"
