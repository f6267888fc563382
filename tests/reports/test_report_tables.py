"""Which rows and columns tables have, and which cell is the strongest."""

import json
from dataclasses import replace

from msgspec import structs

from robustbench_coded.judge.run import load_run
from robustbench_coded.reports.render.markdown import markdown_table
from robustbench_coded.reports.run.tables import Column, TableBuilder, narrowed, tables_of
from robustbench_coded.reports.run.verdict_tables import (
    check_text_table,
    other_text_table,
    row_text_table,
    rows_of,
)
from robustbench_coded.reports.text.formatting import TextTable, hiding_text
from robustbench_coded.runs.folder import sealed
from robustbench_coded.schema.case import WHOLE_BATCH, ThreatModel


def names(table):
    return [(column.attack, str(column.threat)) for column in table.columns]


def test_columns_are_nulls_then_the_papers_attacks_then_the_others_by_threat(make_run, subject):
    accuracies = {
        ("clean", "batch/unknown"): (0.9, 0.9),
        ("random-sign", "batch/unknown"): (0.8, 0.8),
        ("transfer-pgd-20", "batch/unknown"): (None, 0.1),
        ("pgd-10", "batch/unknown"): (0.0, 0.3),
        ("aware-pgd-10", "batch/known"): (None, 0.2),
        ("transfer-pgd-20", "victim/unknown"): (None, 0.1),
    }
    table = tables_of(load_run(make_run(accuracies=accuracies)))[0]
    assert names(table) == [
        ("clean", "batch/unknown"),
        ("random-sign", "batch/unknown"),
        ("pgd-10", "batch/unknown"),
        ("transfer-pgd-20", "batch/unknown"),
        ("ensemble", "batch/unknown"),
        ("aware-pgd-10", "batch/known"),
        ("ensemble", "batch/known"),
        ("transfer-pgd-20", "victim/unknown"),
        ("ensemble", "victim/unknown"),
    ]


def test_the_strongest_attack_of_each_threat_model_is_marked(make_run):
    table = tables_of(load_run(make_run()))[0]
    marked = {
        row.subject.defence: [
            column for column, cell in zip(names(table), row.cells, strict=True) if cell and cell.strongest
        ]
        for row in table.rows
    }
    assert marked["standard"] == [("pgd-10", "batch/unknown")]
    # Under a known draw it is the transfer attack again, in the column of the attacker who knows less.
    assert marked["rci"] == [("transfer-pgd-20", "batch/unknown"), ("transfer-pgd-20", "victim/unknown")]


def test_inference_methods_keep_their_checkpoints_together(make_run, subject):
    subjects = [subject("a"), subject("a", "rci", 32, 48), subject("b"), subject("b", "rci", 32, 48)]
    table = tables_of(load_run(make_run(subjects=subjects)))[0]
    assert [row.labels for row in table.rows] == [
        ("Standard inference", "a"),
        ("Standard inference", "b"),
        ("RCI (N = 48)", "a"),
        ("RCI (N = 48)", "b"),
    ]


def test_several_batch_sizes_make_a_table_by_batch_size(make_run, subject):
    subjects = [
        subject("a"),
        *(subject("a", "rci", k, 3 * k // 2) for k in (16, 8, 32)),
        subject("a", "coded", 32, 32),
    ]
    main, sweep = tables_of(load_run(make_run(subjects=subjects)))
    # Two defences were run at K = 32, so that is where they are compared.
    assert [row.subject.k for row in main.rows] == [None, 32, 32]
    assert sweep.heads == ("K", "N")
    assert [row.labels for row in sweep.rows] == [("8", "12"), ("16", "24"), ("32", "48")]


def test_a_narrow_table_has_the_attack_that_decided_and_all_attacks_at_its_end(make_run):
    table = narrowed(tables_of(load_run(make_run()))[0])
    titles = [column.title for column in table.columns]
    assert titles == ["Clean", "FGSM", "PGD-10", "Transfer PGD-20", "All attacks"]
    (rci,) = [row for row in table.rows if row.subject.defence == "rci"]
    assert [cell.strongest for cell in rci.cells] == [False, False, False, True, False]


def test_the_attacks_that_a_check_asks_for_are_named(make_run):
    run = load_run(make_run())
    told = [row[-1] for row in check_text_table(run.judgements).rows if row[-1]]
    assert "transfer-pgd-40, square-1000" in told


def test_a_hiding_operator_is_told_with_its_scale_and_calls():
    met = {"operator": "softmax", "calls": 1, "scale": 149.6}
    assert hiding_text(met) == "gradients vanish in softmax at scale 150 (1 call)"
    assert hiding_text({"operator": "round", "calls": 3}) == "gradients vanish in round (3 calls)"


def test_a_column_that_says_the_same_everywhere_is_said_once():
    table = TextTable(("A", "B", "Empty", "C"), (("1", "x", "", "y"), ("1", "z", "", "y")), frozenset("C"))
    assert table.without_constants() == (TextTable(("B",), (("x",), ("z",))), "A 1; C y")
    one = TextTable(("A", "Empty"), (("1", ""),))
    assert one.without_constants() == (TextTable(("A",), (("1",),)), "")
    assert TextTable(("A",), ()).without_constants() == (TextTable(("A",), ()), "")
    assert table.without_constants(("A", "B")) == (
        TextTable(("B", "Empty", "C"), (("x", "", "y"), ("z", "", "y")), frozenset("C")),
        "A 1",
    )


def test_clean_accuracy_is_that_of_whole_batches_whatever_stands_first(make_run):
    rows = load_run(make_run()).rows
    clean = next(row for row in rows if row.attack == "clean" and row.subject.defence == "rci")
    of_victims = structs.replace(clean.case, threat=ThreatModel("victim", "unknown"))
    victims = replace(clean, case=of_victims)
    column = Column("clean", WHOLE_BATCH)
    for several in ([victims, *rows], [*rows, victims]):
        assert TableBuilder(several).cell(clean.subject, rows[-1].perturbation, column).line is clean
    assert TableBuilder([victims]).cell(clean.subject, rows[-1].perturbation, column).line is victims


def test_each_accuracy_that_rests_on_another_number_of_examples_says_so(make_run):
    run = load_run(make_run())  # whole batches on 128 examples, victims on 16
    (table,) = tables_of(run)
    assert table.examples == 128
    text = " ".join(markdown_table(table).split())
    shown = next(row for row in table.rows if row.subject.defence == "rci")
    victims = [cell for cell in shown.cells if cell is not None and cell.line.threat.one_victim]
    assert victims and text.count("<sub>n = 16</sub>") == len(victims)
    assert "n = 128" not in text
    (images,) = row_text_table(list(rows_of(run))).rows
    assert "128" in images


def test_inputs_that_nobody_attacked_are_not_what_an_attack_left(make_run):
    path = make_run(missing=[("transfer-pgd-20", "rci")])
    run = load_run(path)
    ensemble = [row for row in run.rows if row.attack == "ensemble" and row.threat.one_victim]
    assert (ensemble[0].accuracy, ensemble[0].done) == (None, False)  # clean inputs alone are none
    (table,) = tables_of(run)
    attacked = next(row for row in table.rows if row.subject.defence == "rci")
    of_victims = [cell for cell in attacked.cells if cell is not None and cell.line.threat.one_victim]
    assert [cell.line.accuracy for cell in of_victims] == [None, None]
    others = other_text_table(list(rows_of(run)))
    (row,) = others.rows
    assert row[others.heads.index("victim/unknown")] == ""


def test_a_row_that_is_measured_in_part_says_how_far(make_run):
    path = make_run(
        accuracies={("clean", "batch/unknown"): (0.9, None), ("fgsm", "batch/unknown"): (0.1, None)}
    )
    manifest = json.loads((path / "run.json").read_text())
    fgsm = next(record for record in manifest["cases"] if record["case"]["attack"] == "fgsm")
    fgsm["units"].append("f" * 20)
    fgsm["examples_planned"] = 10_000
    (path / "run.json").write_text(sealed(manifest))
    text = markdown_table(tables_of(load_run(path))[0])
    assert "128 of 10,000" in text
    nothing = make_run("nothing", missing=[("fgsm", "standard")])
    text = markdown_table(tables_of(load_run(nothing))[0])
    assert "not run yet" in text and "0 of" not in text
