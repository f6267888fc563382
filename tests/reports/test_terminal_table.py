"""Tables at terminals of all widths."""

import io
import re

import pytest
from rich.console import Console

from robustbench_coded.paper.studies.beside_paper import beside_paper
from robustbench_coded.reports.compare.comparison import compare
from robustbench_coded.reports.render.plain_table import PlainTable
from robustbench_coded.reports.render.terminal import (
    AccuracyTable,
    comparison_table,
    example_table,
    result,
    summary_table,
)
from robustbench_coded.reports.run.examples import example_text_table
from robustbench_coded.reports.run.tables import tables_of
from robustbench_coded.reports.text.formatting import TextTable
from robustbench_coded.run import load_run


def printed(path, width, *, color=False, **environment):
    return shown(summary_table(load_run(path)), width, color=color, **environment)


def shown(what, width, *, color=False, **environment):
    console = Console(
        file=io.StringIO(), width=width, force_terminal=color, _environ=environment, legacy_windows=False
    )
    console.print(what)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 120, 250])
def test_no_line_is_wider_than_the_terminal_and_no_accuracy_is_lost(make_run, width):
    run = load_run(make_run())
    text = shown(summary_table(run), width)
    assert max(len(line) for line in text.splitlines()) <= width
    words = " ".join(text.split())
    for table in tables_of(run):
        for column, *cells in zip(table.columns, *(row.cells for row in table.rows), strict=True):
            assert {*re.split(r"[ -]", column.title)} <= {*re.split(r"[ -]+", words)}
            assert all(cell.texts(table)[0][0] in words for cell in cells)


def test_a_narrow_terminal_turns_the_table_round(make_run):
    (table, *_) = tables_of(load_run(make_run()))
    narrow, wide = (shown(AccuracyTable(table), width) for width in (80, 140))
    assert re.search(r"(?m)^ EOT-PGD-20 \(10 draws\) +0\.0 \[0\.0, 2\.8\] +10\.", narrow)
    assert re.search(r"(?m)^ RCI \(N = 48\) +88\.3 +45\.3", wide) and "not run" in wide
    assert "more columns" not in narrow + wide


def test_a_run_that_lacks_outcomes_says_so(make_run):
    text = printed(make_run(failed=[("pgd-10", "rci")]), 250)
    assert "not run" in text and "1 of 13 planned cases lacks outcomes" in text


def test_a_result_begins_with_the_answer_and_ends_with_what_is_open(make_run):
    run = load_run(make_run())
    text = " ".join(shown(result(run), 80).split())
    assert text.startswith(
        "RCI (N = 48) on erm: not settled (no interval). Robust accuracy is 0.0% as attacked"
    )
    first, _, rest = text.partition("Accuracy under attack")
    assert "No further run on these images" in first
    assert "Transfer PGD-20" in rest and "*" not in text
    whole = " ".join(shown(summary_table(run), 80).split())
    reasons = {j.verdict.reason for j in run.judgements if j.verdict.name == "not settled"}
    assert reasons and all((reason in whole, reason in text) == (True, False) for reason in reasons)


def views(path):
    """What `show`, `show --example` and `compare` print."""
    run = load_run(path)
    yield example_table("example 3", example_text_table(run, 3))
    comparison = compare([path])
    yield comparison_table(comparison, beside_paper(comparison.runs))


@pytest.mark.parametrize("width", [60, 300])
def test_hostile_names_do_nothing_in_any_view(hostile_run, width):
    for view in views(hostile_run):
        text = shown(view, width)
        assert all(c.isprintable() or c == "\n" for c in text)
        assert max(len(line) for line in text.splitlines()) <= width
        if width == 300:
            assert r"\x1b[31mred\x1b[0m\x07" in text
            assert "[link](https://" in text


def test_an_example_has_a_block_for_each_subject(make_run):
    path = make_run()
    text = shown(example_table("example 3", example_text_table(load_run(path), 3)), 80)
    blocks = re.split(r"^(?=Standard inference on|RCI)", text, flags=re.MULTILINE)
    assert blocks[0].startswith("example 3; label 1; linf, eps 8/255 (pixel)")
    assert len(blocks) == 3
    assert "aware-pgd-10" not in blocks[1]
    assert re.search(r"batch/known +aware-pgd-10 +[012] of 2", blocks[2])


def test_several_budgets_are_told_apart(make_run, tmp_path):
    path = make_run()
    text_table = example_text_table(load_run(path), 3)
    budget = text_table.heads.index("Perturbation budget")
    rows = [(*row[:budget], "l2, eps 1 (pixel)", *row[budget + 1 :]) for row in text_table.rows[-1:]]
    both = type(text_table)(text_table.heads, (*text_table.rows, *rows), text_table.numbers)
    text = shown(example_table("example 3", both), 160)
    assert "Perturbation budget" in text
    assert "l2, eps 1 (pixel)" in text
    assert "Perturbation budget" not in shown(example_table("example 3", text_table), 160)


@pytest.mark.parametrize("width", [66, 73, 78, 79, 93, 140])
def test_intervals_in_a_plain_table_stay_whole(width):
    heads = ("Checkpoint", "Inference", "Accuracy", "Less the baseline", "mCE", "Paper")
    figures = ("69.6 [68.2, 71.1]", "-9.2 [-11.4, -6.9]", "126.2 [123.1, 129.3]", "72.7")
    table = TextTable(heads, (("manifold-mixup", "RCI (N = 48)", *figures),), frozenset(heads[2:]))
    text = shown(PlainTable("Accuracy", table), width)
    assert max(map(len, text.splitlines())) <= width
    for figure in figures:
        value, _, ends = figure.partition(" ")
        assert value in text and ends in text
    assert ("(more columns of this table)" in text) == (width < 79)
    assert (figures[0] in text) == (width not in (79, 93))  # where there is room, on one line


DIFFERENCE = "65.2 [59.5, 71.4]† -13.7 [-17.3, +11.0]†"


@pytest.mark.parametrize("columns", [1, 2, 5])
@pytest.mark.parametrize("head", ["erm", "a-run-of-a-long-name Standard inference another-checkpoint"])
def test_no_figure_is_cut_at_any_width(columns, head):
    attacks = ("clean", "aware-pgd-20+init=transfer-pgd-20 batch/known", "0123456789" * 6)
    heads = tuple(f"{head}-{i}" for i in range(columns))
    table = TextTable(
        ("Attack", *heads), tuple((name, *columns * [DIFFERENCE]) for name in attacks), frozenset(heads)
    )
    for width in range(34, 200):
        lines = shown(PlainTable("Accuracy", table), width).splitlines()
        assert max(map(len, lines)) <= width
        text = " ".join(lines)
        for piece in ("65.2", "[59.5, 71.4]†", "-13.7", "[-17.3, +11.0]†"):
            assert text.count(piece) == 3 * columns, (width, piece)
