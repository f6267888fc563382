"""A run beside the paper's tables."""

from types import SimpleNamespace

import pytest
from msgspec import structs

from robustbench_coded.paper.studies.beside_paper import (
    NO_ROW,
    PaperLine,
    beside_paper,
    paper_lines,
    paper_tables,
    paper_text_table,
    trainings,
)
from robustbench_coded.run import load_run

ACCURACIES = {
    ("clean", "batch/unknown"): (0.937, 0.6),
    ("random-sign", "batch/unknown"): (0.8, 0.7),
    ("fgsm", "batch/unknown"): (0.365, 0.758),
    ("pgd-10", "batch/unknown"): (0.055, 0.29),
    ("eot10-pgd-20", "batch/unknown"): (0.0, 0.1),
}


def test_measured_stands_beside_printed_and_differences_are_marked(make_run, subject):
    subjects = [subject("erm"), subject("erm", "rci", 128, 190)]
    run = load_run(make_run(subjects=subjects, accuracies=ACCURACIES, examples=640, batch_size=128))
    marks = {(found.row.subject.defence, found.row.attack): found.agreement for found in paper_lines(run)}
    assert marks == {
        ("standard", "clean"): "agrees",
        ("standard", "fgsm"): "agrees",
        ("standard", "pgd-10"): "agrees",
        ("rci", "clean"): "no interval",
        ("rci", "fgsm"): "no interval",
        ("rci", "pgd-10"): "no interval",
    }
    text_table = paper_text_table(run)
    rows = {(row[3], row[4]): row for row in text_table.rows}
    row = dict(zip(text_table.heads, rows["RCI (K = 128, N = 190)", "pgd-10"], strict=True))
    assert row["Paper"] == "65.7"
    assert row["Agreement"] == "no interval"
    assert row["Measured"].endswith(" (5 batches)")
    assert float(row["Measured"].split()[0]) - 65.7 == pytest.approx(float(row["Difference"]), abs=0.051)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.56, 0.74, "agrees"),
        (0.54, 0.70, "too wide to tell"),  # it holds the paper's number, and much else
        (0.0, 0.994, "too wide to tell"),
        (0.67, 0.76, "too wide to tell"),
        (0.76, 0.8, "differs"),
        (0.1, 0.54, "differs"),
    ],
)
def test_agreement_needs_the_whole_interval_within_ten_points(low, high, said):
    assert PaperLine(3, "erm", SimpleNamespace(low=low, high=high), 0.65).agreement == said


def test_a_run_without_the_papers_settings_says_so(make_run):
    run = load_run(make_run(data="digits", accuracies=ACCURACIES))
    assert paper_lines(run) == []
    assert NO_ROW in str(beside_paper({"digits": run}))


def test_a_network_trained_behind_a_defence_is_none_of_the_papers(make_run, subject):
    manifest = load_run(make_run(subjects=[subject("erm")], accuracies=ACCURACIES)).manifest
    assert trainings(manifest) == {"erm": "erm"}
    (checkpoint,) = manifest.checkpoints
    behind = structs.replace(checkpoint, metadata={"recipe": "erm", "defence": "published:tent"})
    assert trainings(structs.replace(manifest, checkpoints=(behind,))) == {}


def test_the_papers_tables_are_those_that_were_printed():
    tables = paper_tables()
    assert tables["table3"]["rci"]["190"]["coded"] == [94.8, 80.5, 72.0, 5.8]
    sizes = [row[:2] for row in tables["table10"]["rows"]]
    assert sizes == [[8, 12], [16, 24], [32, 48], [64, 96], [128, 190]]
