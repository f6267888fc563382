"""Runs side by side: who is compared with whom, how, and where not."""

import csv
import io
import json
import re
from dataclasses import replace

import pytest

from robustbench_coded.errors import InputError
from robustbench_coded.paper.studies.beside_paper import beside_paper
from robustbench_coded.reports.compare.comparison import compare, comparison_csv
from robustbench_coded.reports.render.comparison import comparison_document
from robustbench_coded.runs.folder import sealed
from robustbench_coded.schema.words import IntervalKind
from tests.reports.conftest import SMALL

IMAGES = "".join(f"{number:08x}" for number in range(128))
PGD, SQUARE = ("pgd-10", "batch/unknown"), ("square-50", "batch/unknown")


def differences(comparison):
    """(labels, attack) -> difference, where there is one."""
    return {
        (row.labels, column.attack): cell.difference
        for table in comparison.tables
        for row in table.rows
        for column, cell in zip(table.columns, row.cells, strict=True)
        if cell is not None and cell.difference is not None
    }


def test_one_run_is_compared_with_its_standard_inference(make_run):
    comparison = compare([make_run(accuracies=SMALL)])
    assert comparison.baseline == "defence standard"
    found = differences(comparison)
    assert {labels for labels, _ in found} == {("RCI (N = 48)", "erm")}
    run = next(iter(comparison.runs.values()))
    accuracy = run.summary.set_index(["defence", "attack"]).accuracy
    for (_, attack), difference in found.items():
        assert difference.estimate == pytest.approx(
            accuracy["rci", attack] - accuracy["standard", attack], abs=1e-5
        )
        assert difference.low < difference.estimate < difference.high


def test_the_answer_counts_intervals_that_leave_out_0(make_run):
    comparison = compare([make_run(accuracies=SMALL)])
    (pair,) = comparison.compared
    people, images = IntervalKind.POPULATION, IntervalKind.EVALUATED_IMAGES
    ends = [(-0.5, -0.1, people), (0.1, 0.5, people), (-0.1, 0.5, people), (-0.5, -0.1, images)]
    pairs = [replace(pair, worst=replace(pair.clean, low=low, high=high, kind=k)) for low, high, k in ends]
    answer = replace(comparison, compared=(*pairs, replace(pair, worst=None))).answer
    assert "Worst case: for the population, 1 of 3 significantly above it, 1 below; " in answer
    assert "for the evaluated images†, 0 of 1 significantly above it, 1 below." in answer
    assert answer.endswith("Not compared: 1.")


def test_the_ensemble_who_knows_the_draw_is_compared_with_the_one_answer_of_standard_inference(make_run):
    accuracies = SMALL | {("aware-pgd-10", "batch/known"): (None, 0.3)}
    found = differences(compare([make_run(accuracies=accuracies)]))
    table = compare([make_run("again", accuracies=accuracies)]).tables[0]
    known = [c for c in table.columns if str(c.threat) == "batch/known"]
    assert [column.attack for column in known] == ["aware-pgd-10", "ensemble"]
    assert (("RCI (N = 48)", "erm"), "ensemble") in found


def test_several_runs_are_compared_with_the_first(make_run):
    a, b = (
        make_run("a", accuracies=SMALL),
        make_run("b", accuracies=SMALL | {("pgd-10", "batch/unknown"): (0.1, 0.2)}),
    )
    comparison = compare([a, b])
    assert comparison.baseline == "run a"
    found = differences(comparison)
    assert {labels[0] for labels, _ in found} == {"b"}
    moved = found[("b", "RCI (N = 48)", "erm"), "pgd-10"]
    assert moved.estimate < 0 and moved.kind is None  # disjoint batches alone
    assert found[("b", "RCI (N = 48)", "erm"), "clean"].estimate == 0
    assert comparison.incompatibilities == ()


def test_a_baseline_may_be_a_checkpoint(make_run, subject):
    subjects = [subject("erm", "rci", 32, 48), subject("mixup", "rci", 32, 48)]
    comparison = compare([make_run(subjects=subjects, accuracies=SMALL)], "erm")
    assert {labels for labels, _ in differences(comparison)} == {("RCI (N = 48)", "mixup")}


def test_a_name_that_names_nothing_is_refused_with_those_that_do(make_run):
    with pytest.raises(InputError, match="choose from run, erm, standard, rci"):
        compare([make_run(accuracies=SMALL)], "rcl")


def test_other_data_are_never_paired(make_run):
    a = make_run("a", accuracies=SMALL)
    b = make_run("b", accuracies=SMALL, data="cifar100", data_sha256="e" * 64, seed=1)
    comparison = compare([a, b])
    assert differences(comparison) == {}
    assert comparison.unpaired == (
        "b and a use different images or labels, or another order of them, as far as their run.json shows "
        "(cifar100 and cifar10), so no difference is computed.",
    )
    told = "Runs differ in the data: cifar10 (dddddddd) in a, cifar100 (eeeeeeee) in b."
    assert told in comparison.incompatibilities


@pytest.mark.parametrize("examples", [128, 64])
@pytest.mark.parametrize("images", [(None, None), (IMAGES, None), (IMAGES, "f" + IMAGES[1:])])
def test_the_same_name_and_labels_with_other_images_are_other_data(make_run, images, examples):
    a = make_run("a", accuracies=SMALL, data="in memory", images=images[0])
    other = {"data": "in memory", "data_sha256": "e" * 64, "images": images[1] and images[1][: 8 * examples]}
    comparison = compare([a, make_run("b", accuracies=SMALL, seed=1, examples=examples, **other)])
    assert differences(comparison) == {}
    assert any("different images or labels" in text for text in comparison.unpaired)
    told = "Runs differ in the data: in memory (dddddddd) in a, in memory (eeeeeeee) in b."
    assert told in comparison.incompatibilities


@pytest.mark.parametrize(
    "other", [{"data": "npz:set.npz"}, {"data": "npz:floats.npz", "data_sha256": "e" * 64, "images": IMAGES}]
)
def test_equal_images_under_other_names_are_the_same_data(make_run, other):
    a = make_run("a", accuracies=SMALL, images=IMAGES)
    comparison = compare([a, make_run("b", accuracies=SMALL, seed=1, **other)])
    assert len(differences(comparison)) == 6 and comparison.unpaired == ()
    assert not any("differ in the data" in text for text in comparison.incompatibilities)


def test_fewer_examples_of_the_same_data_are_paired_on_what_is_shared(make_run):
    a = make_run("a", accuracies=SMALL, images=IMAGES)
    fewer = {"data_sha256": "e" * 64, "examples": 64, "images": IMAGES[: 8 * 64]}
    b = make_run("b", accuracies=SMALL, **fewer)
    found = differences(compare([a, b]))
    assert {difference.examples for difference in found.values()} == {64}
    assert any("number of examples" in text for text in compare([a, b]).incompatibilities)


def test_other_precisions_states_and_code_are_told(make_run):
    runs = [make_run(name, accuracies=SMALL, seed=seed) for seed, name in enumerate("ab")]
    manifest = json.loads((runs[1] / "run.json").read_text())
    manifest["checkpoints"][0]["gradients"] = {"precision": "bfloat16"}
    manifest["identity"] |= {"state": "persistent over 4 batches", "csrobust": "c0de"}
    (runs[1] / "run.json").write_text(sealed(manifest))
    told = compare(runs).incompatibilities
    assert "Runs differ in the precision of attacks: float32 in a, bfloat16 in b." in told
    assert "Runs differ in the state of defences: reset in a, persistent over 4 batches in b." in told
    assert "Runs differ in the code of csrobust: 0.1.0 (digest not recorded) in a, 0.1.0 (c0de) in b." in told


def test_other_seeds_batches_and_weights_are_told(make_run, subject):
    a = make_run("a", accuracies=SMALL)
    b = make_run("b", accuracies=SMALL, seed=3, subjects=[subject("erm", "rci", 64, 96)])
    manifest = json.loads((b / "run.json").read_text())
    manifest["checkpoints"][0]["sha256"] = "f" * 64
    (b / "run.json").write_text(sealed(manifest))
    told = " ".join(compare([a, b]).incompatibilities)
    assert "the draws: seeds: 0 in a, 3 in b" in told
    assert "the batches: K: [32] in a, [64] in b" in told
    assert "erm is not the same file in a and b" in told


def test_budgets_are_never_mixed(make_run):
    a = make_run("a", accuracies=SMALL)
    b = make_run("b", accuracies=SMALL, eps_space="normalized")
    comparison = compare([a, b])
    assert [table.perturbation.eps_space for table in comparison.tables] == ["normalized", "pixel"]
    attacked = [key for key in differences(comparison) if key[1] != "clean"]
    assert attacked == []


def test_a_subject_without_counterpart_is_named(make_run, subject):
    a = make_run("a", accuracies=SMALL, subjects=[subject("erm")])
    b = make_run("b", accuracies=SMALL, subjects=[subject("erm"), subject("erm", "noise", None, None)])
    assert "noise on erm in b has no counterpart in the baseline, run a." in compare([a, b]).unpaired


def test_a_comparison_of_nothing_is_refused():
    with pytest.raises(InputError, match="no run folders"):
        compare([])


def test_the_same_run_twice_is_refused(make_run):
    path = make_run(accuracies=SMALL)
    with pytest.raises(InputError, match="given twice"):
        compare([path, path.parent / "." / path.name])


def test_runs_of_the_same_name_go_by_their_paths(make_run, tmp_path):
    (tmp_path / "one").mkdir()
    paths = [make_run("run", accuracies=SMALL), make_run("one/run", accuracies=SMALL)]
    assert list(compare(paths).runs) == [str(path) for path in paths]


def test_csv_holds_what_the_tables_show(make_run):
    comparison = compare([make_run("a", accuracies=SMALL), make_run("b", accuracies=SMALL, seed=1)])
    rows = list(csv.DictReader(io.StringIO(comparison_csv(comparison))))
    assert len(rows) == sum(
        cell.figure is not None for t in comparison.tables for r in t.rows for cell in r.cells
    )
    compared = [row for row in rows if row["difference.estimate"]]
    assert {row["Run"] for row in compared} == {"b"}
    for row in compared:
        low, estimate, high = (float(row[f"difference.{name}"]) for name in ("low", "estimate", "high"))
        assert low <= estimate <= high


@pytest.mark.parametrize("name", ["latex", "csv", "md", "html"])
def test_hostile_names_stay_names(hostile_run, name):
    comparison = compare([hostile_run])
    text = comparison_document(comparison, name, beside_paper(comparison.runs))
    assert all(c.isprintable() or c in "\n\r" for c in text)
    assert "<script>alert" not in text or name == "csv"
    if name == "latex":
        assert r"\input{" not in text
        assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}")
        for tabular in text.split(r"\begin{tabular}")[1:]:
            body = [line for line in tabular.splitlines() if line.endswith((r"\\", r"\\[2pt]"))]
            plain = [line.replace(r"\&", "") for line in body if "multicolumn" not in line]
            assert len({line.count("&") for line in plain}) == 1


def test_latex_balances_its_braces(hostile_run):
    text = comparison_document(compare([hostile_run]), "latex")
    text = re.sub(r"\\.", "", text, flags=re.DOTALL)  # control symbols, among them \\ and escaped braces
    depth = 0
    for character in text:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0


def test_tables_go_from_the_smallest_eps_to_the_largest(make_run):
    runs = [make_run(f"eps{eps}", accuracies=SMALL, eps=eps) for eps in (0.3, 0.1)]
    assert [table.perturbation.eps for table in compare(runs).tables] == [0.1, 0.3]


def apart(comparison):
    """What is said of differences between the runs."""
    text = comparison_document(comparison, "md")
    return text.partition("## Differences between the runs\n\n- ")[2].rstrip()


def test_defences_without_a_common_attack_are_not_compared_and_the_reader_is_told(make_run, subject):
    """The one run has the attack that breaks a network, the other has not."""
    shared = {key: value for key, value in SMALL.items() if key != PGD}
    subjects = [subject("erm", name) for name in ("noise", "blur")]
    a = make_run("a", subjects=subjects[:1], accuracies=shared | {PGD: (0.1, 0.1)})
    b = make_run("b", subjects=subjects[1:], accuracies=shared | {SQUARE: (0.3, 0.3)})
    comparison = compare([a, b])
    assert {key[1] for key in differences(comparison)} == {"clean"}
    why = "No attack under batch/unknown ran on both blur on erm in b and noise on erm in a."
    assert comparison.unpaired == (why,) and comparison.answer.endswith("Not compared: 1.")


def test_an_unfinished_run_is_compared_on_what_it_has_finished(make_run):
    accuracies = SMALL | {("fgsm", "batch/unknown"): (0.6, 0.6)}
    a = make_run("a", accuracies=accuracies)
    missing = [("pgd-10", "rci"), ("pgd-10", "standard")]
    b = make_run("b", accuracies=accuracies, seed=1, finished=False, missing=missing)
    comparison = compare([a, b])
    found = differences(comparison)
    assert {key[1] for key in found} == {"clean", "fgsm", "ensemble"}
    assert {found[key].estimate for key in found if key[1] != "ensemble"} == {0}
    assert "b is not complete: 2 of 8 planned cases lack outcomes." in apart(comparison)


def test_one_run_has_no_differences_that_matter(make_run):
    assert apart(compare([make_run(accuracies=SMALL)])) == "None that matters here."
