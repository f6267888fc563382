"""Which rows and columns tables have, and which cell is the strongest."""

import json
from dataclasses import replace

from msgspec import structs

from attacks.presets import PRESETS
from robustbench_coded.reports.render.markdown import markdown_table
from robustbench_coded.reports.run.tables import Column, TableBuilder, tables_of
from robustbench_coded.reports.run.verdict_tables import (
    check_text_table,
    other_text_table,
    rows_of,
)
from robustbench_coded.reports.text.formatting import TextTable, hiding_text
from robustbench_coded.run import load_run
from robustbench_coded.runs.folder import sealed
from robustbench_coded.schema.case import WHOLE_BATCH, ThreatModel
from tests.reports.conftest import ACCURACIES

STANDARD_COLUMNS = [
    ("clean", "batch/unknown", "Clean"),
    ("fgsm", "batch/unknown", "FGSM"),
    ("pgd-10", "batch/unknown", "PGD-10"),
    ("pgd-100", "batch/unknown", "PGD-100"),
    ("eot10-pgd-20", "batch/unknown", "EOT-PGD-20 (10 draws)"),
    ("transfer-pgd-20", "batch/unknown", "Transfer PGD-20"),
    ("ensemble", "batch/unknown", "Worst case"),
    ("aware-pgd-10", "batch/known", "PGD-10, order known"),
    ("strongest", "batch/known", "Strongest other, order known"),
    ("ensemble", "batch/known", "Worst case, order known"),
]


def names(table):
    return [(column.attack, str(column.threat), column.title) for column in table.columns]


def cells(table, defence="rci"):
    """Column -> cell of the row of a defence."""
    (row,) = [row for row in table.rows if row.subject.defence == defence]
    return {column[:2]: cell for column, cell in zip(names(table), row.cells, strict=True)}


def test_every_table_has_the_standard_attacks_each_beside_the_worst_case_of_its_threat_model(make_run):
    whole, victims = tables_of(load_run(make_run()))
    assert names(whole) == STANDARD_COLUMNS
    # Nobody was asked to attack victims: what was not tried there has no column.
    assert [name[::2] for name in names(victims)] == [
        ("clean", "Clean"),
        ("transfer-pgd-20", "Transfer PGD-20"),
        ("ensemble", "Worst case"),
    ]


def test_a_cell_without_a_figure_is_a_dash_where_the_attack_does_not_apply_else_not_run(make_run):
    few = {
        key: share for key, share in ACCURACIES.items() if key[0] in ("clean", "pgd-10", "transfer-pgd-20")
    }
    table = tables_of(load_run(make_run(accuracies=few, missing=[("pgd-10", "rci")])))[0]
    texts = [
        {column: cell.texts(table)[0][0] for column, cell in cells(table, defence).items()}
        for defence in ("standard", "rci")
    ]
    absent = [[column[0] for column in each if each[column] == "not run"] for each in texts]
    # A network without randomness has no order to know and nothing to average.
    assert absent[0] == ["fgsm", "pgd-100"]
    assert absent[1] == ["fgsm", "pgd-10", "pgd-100", "eot10-pgd-20", "aware-pgd-10"]
    dashes = [[column[0] for column in each if each[column] == "–"] for each in texts]
    assert dashes == [["eot10-pgd-20", "transfer-pgd-20", "aware-pgd-10"], []]
    assert "–: does not apply" in table.legend


def test_every_attack_that_was_typed_has_a_column_and_those_of_presets_have_none(make_run):
    typed = [*PRESETS["paper"], "eot10-pgd-20", "square-1000", "aware-pgd-20"]
    for asked, more in (
        (typed, {"square-1000", "aware-pgd-20"}),
        ([*PRESETS["paper"], *PRESETS["adaptive"]], set()),
    ):
        path = make_run(str(len(asked)))
        manifest = json.loads((path / "run.json").read_text())
        manifest["invocations"][0]["options"]["attacks"] = asked
        (path / "run.json").write_text(sealed(manifest))
        table = tables_of(load_run(path))[0]
        assert {name[0] for name in names(table)} == {name[0] for name in STANDARD_COLUMNS} | more


def test_figures_are_those_as_attacked_and_carry_no_interval_of_other_batches(make_run, subject):
    run = load_run(make_run(subjects=[subject("erm"), subject("erm", "rci", 32, 48, random_batches=40)]))
    table = tables_of(run)[0]
    outcomes = run.outcomes[(run.outcomes.purpose == "scoring") & (run.outcomes.defence == "rci")]
    shown = cells(table)
    for attack in ("clean", "fgsm", "pgd-10", "eot10-pgd-20", "transfer-pgd-20"):
        own = outcomes[(outcomes.attack == attack) & (outcomes.threat == "batch/unknown")]
        share = (own.prediction == own.label).mean()
        assert shown[attack, "batch/unknown"].texts(table) == [
            (f"{100 * share:.1f}", attack == "transfer-pgd-20")
        ]
    assert "in 4 batches" in table.legend
    standard = cells(table, "standard")["fgsm", "batch/unknown"]
    (row,) = [r for r in run.rows if (r.subject.defence, r.attack) == ("standard", "fgsm")]
    ends = f"[{100 * row.low:.1f}, {100 * row.high:.1f}]"
    assert standard.texts(table) == [(f"{100 * row.accuracy:.1f}", False), (ends, False)]


def test_the_strongest_attack_of_each_threat_model_is_marked(make_run):
    whole, victims = tables_of(load_run(make_run()))
    marked = [
        [column for column, cell in cells(table, defence).items() if cell.strongest]
        for table, defence in ((whole, "standard"), (whole, "rci"), (victims, "rci"))
    ]
    # Under a known draw it is the transfer attack again, which has its column under an unknown one.
    assert marked == [
        [("pgd-10", "batch/unknown")],
        [("transfer-pgd-20", "batch/unknown"), ("strongest", "batch/known")],
        [("transfer-pgd-20", "victim/unknown")],
    ]
    assert ("transfer PGD-20", False) in cells(whole)["strongest", "batch/known"].texts(whole)


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
    main, _, sweep = tables_of(load_run(make_run(subjects=subjects)))
    # Two defences were run at K = 32, so that is where they are compared.
    assert [row.subject.k for row in main.rows] == [None, 32, 32]
    assert sweep.heads == ("K", "N")
    assert [row.labels for row in sweep.rows] == [("8", "12"), ("16", "24"), ("32", "48")]


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
    column, budget = Column("clean", WHOLE_BATCH, "Clean"), rows[-1].perturbation
    for several in ([victims, *rows], [*rows, victims]):
        assert TableBuilder(several, ()).cell(clean.subject, budget, column).line is clean
    assert TableBuilder([victims], ()).cell(clean.subject, budget, column).line is victims


def test_each_accuracy_that_rests_on_another_number_of_examples_says_so(make_run, subject):
    run = load_run(make_run(subjects=[subject("erm"), subject("erm", "noise")]))
    (table,) = tables_of(run)
    assert table.bases == ("n = 128",) and "n = 128" in table.legend
    row = replace(table.rows[0].cells[1].line, examples=16)
    cell = replace(table.rows[0].cells[1], line=row)
    assert cell.texts(table)[-1] == ("n = 16", False)
    assert "n = 128" not in markdown_table(table)


def test_inputs_that_nobody_attacked_are_not_what_an_attack_left(make_run):
    run = load_run(make_run(missing=[("transfer-pgd-20", "rci")]))
    ensemble = [row for row in run.rows if row.attack == "ensemble" and row.threat.one_victim]
    assert (ensemble[0].accuracy, ensemble[0].done) == (None, False)  # clean inputs alone are none
    of_victims = cells(tables_of(run)[1])
    assert [cell.absent for column, cell in of_victims.items() if column[0] != "clean"] == ["not run"] * 2
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
