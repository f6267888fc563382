"""``csrobust compare`` on runs of ``csrobust shift``, against one run that holds both checkpoints."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from robustbench_coded.cli.main import main

TINY = [
    "shift", "--data", "digits", "--limit", "40", "--severities", "2,5", "--draws", "2", "--batch-size", "16",
    "--threads", "1", "--quiet",
]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """``erm`` with RCI, and ``both``: the same sets in another order, two checkpoints without it."""
    folder = tmp_path_factory.mktemp("shift")
    erm, coded = ("--ckpt", "erm=digits-erm"), ("--ckpt", "coded=digits-coded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        for name, options in (
            ("erm", (*erm, "--rci", "N=1.5K", "--corruptions", "fog,contrast")),
            ("both", (*erm, *coded, "--corruptions", "contrast,fog")),
        ):
            assert main([*TINY, *options, "--out", str(folder / name)]) == 0
    return str(folder / "erm"), str(folder / "both")


@pytest.fixture
def changed(runs, tmp_path):
    """Copies the first run and changes what its shift.json says of the sets."""

    def of(change):
        path = tmp_path / "changed"
        shutil.copytree(runs[0], path)
        data = json.loads((path / "shift.json").read_text())
        change(data["shift"]["sets"])
        (path / "shift.json").write_text(json.dumps(data))
        return str(path)

    return of


def figures(capsys, *arguments):
    assert main(["compare", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.long
def test_two_runs_say_of_a_checkpoint_what_one_run_says_that_holds_both(runs, capsys):
    found = figures(capsys, *runs, "--baseline", "erm")  # a run of that name, and a checkpoint
    assert found["baseline"] == "run erm" and found["apart"] == []
    within = csv.DictReader(io.StringIO(Path(runs[1], "shift.csv").read_text()))
    expected = {
        (row["over"], row["severity"], row["figure"]): [float(row[n]) for n in ("value", "ci_low", "ci_high")]
        for row in within
        if row["checkpoint"] == "coded"
    }
    across = {
        (row["over"], "" if row["severity"] is None else str(row["severity"]), row["figure"]): [
            row[n] for n in ("value", "ci_low", "ci_high")
        ]
        for row in found["figures"]
        if row["run"] == "both" and row["checkpoint"] == "coded"
    }
    assert {figure for _, _, figure in across} == {"accuracy", "difference", "corruption_error"}
    assert across.keys() == expected.keys()
    for key, values in across.items():
        assert values == pytest.approx(expected[key], abs=1e-5), key


def test_the_baseline_may_be_an_inference_and_rci_is_paired_over_batches(runs, capsys):
    found = figures(capsys, runs[0], "--baseline", "standard")
    rows = {(r["defence"], r["over"], r["figure"]): r["value"] for r in found["figures"] if not r["severity"]}
    for over in ("clean", "mean of 2", "fog"):
        gain = rows["rci", over, "accuracy"] - rows["standard", over, "accuracy"]
        assert rows["rci", over, "difference"] == pytest.approx(gain)
    assert rows["standard", "mean of 2", "corruption_error"] == 1
    assert ("standard", "fog", "difference") not in rows


def test_every_format_has_the_differences_and_the_means(runs, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["compare", *runs, "--format", "md,html,csv,latex", "--out", str(out)]) == 0
    assert sorted(p.name for p in out.iterdir()) == [f"comparison.{e}" for e in ("csv", "html", "md", "tex")]
    lines = list(csv.DictReader(io.StringIO((out / "comparison.csv").read_text())))
    (mean,) = [
        r for r in lines
        if (r["run"], r["checkpoint"], r["over"], r["figure"]) == ("both", "coded", "mean of 2", "difference")
    ]  # fmt: skip
    shown = f"{100 * float(mean['value']):+.1f}"
    markdown, tex, html = ((out / f"comparison.{e}").read_text() for e in ("md", "tex", "html"))
    (line,) = [
        line for line in markdown.splitlines()
        if line.startswith("| digits-C (ours) | mean of 2 | both | coded |")
    ]  # fmt: skip
    assert f"| {shown} " in line and "mCE" in markdown and "coded in both" in markdown
    assert shown in tex and "{[}$-$" in tex and tex.count(r"\begin{table}") == 2 and f"{shown} " in html
    assert main(["compare", *runs]) == 0
    assert "digits-C (ours), mean" in capsys.readouterr().out


def test_sets_that_one_run_lacks_are_left_out_and_named(runs, changed, capsys):
    def without_severity_2(sets):
        sets[:] = [one for one in sets if one["severity"] != 2]

    found = figures(capsys, changed(without_severity_2), runs[1])
    (apart,) = found["apart"]
    assert "contrast 2" in apart and "fog 2" in apart
    assert {row["severity"] for row in found["figures"]} == {None, 0, 5}


def refused(capsys, *arguments):
    assert main(["compare", *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_other_images_are_refused_in_one_line(runs, changed, capsys, tmp_path):
    def other_pixels(sets):
        sets[3]["sha256"] = 64 * "0"

    assert "different images" in refused(capsys, changed(other_pixels), runs[1])


def test_an_attacked_run_beside_and_an_unknown_baseline_are_refused_in_one_line(runs, capsys, tmp_path):
    (tmp_path / "attacked").mkdir()
    (tmp_path / "attacked" / "run.json").write_text("{}")
    line = refused(capsys, runs[0], str(tmp_path / "attacked"))
    assert "attacked under attack" in line
    assert "coded, standard, rci" in refused(capsys, *runs, "--baseline", "codde")
    assert "/nowhere" in refused(capsys, runs[0], "/nowhere")
    assert "is given twice" in refused(capsys, runs[0], runs[0])
