"""``csrobust compare`` and ``csrobust report``, in process."""

import json

import pytest

from robustbench_coded.cli.main import main
from tests.reports.conftest import SMALL

pytestmark = pytest.mark.long


def test_report_writes_what_is_missing(make_run, capsys):
    path = make_run(accuracies=SMALL)
    assert main(["report", str(path)]) == 0
    for name in ("summary.csv", "report.md", "report.html"):
        assert (path / name).is_file()
    assert "PGD-10" in capsys.readouterr().out
    assert main(["report", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["finished"] is True


def test_compare_prints_a_table_json_or_a_document(make_run, capsys):
    a, b = str(make_run("a", accuracies=SMALL)), str(make_run("b", accuracies=SMALL, seed=1))
    assert main(["compare", a, b]) == 0
    out = capsys.readouterr().out
    assert "Baseline: run a. No other defence stands beside it." in out
    assert main(["compare", a, b, "--quiet"]) == 0 and capsys.readouterr().out == out
    assert main(["compare", a, b, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["baseline"] == "run a"
    assert main(["compare", a, "--format", "latex"]) == 0
    assert capsys.readouterr().out.startswith("% Needs \\usepackage{booktabs,graphicx}.\n\n\\begin{table}")


def test_compare_writes_every_format(make_run, tmp_path, capsys):
    a, out = str(make_run("a", accuracies=SMALL)), tmp_path / "out"
    assert main(["compare", a, "--format", "md,html,csv,latex", "--paper", "--out", str(out)]) == 0
    assert sorted(p.name for p in out.iterdir()) == [f"comparison.{e}" for e in ("csv", "html", "md", "tex")]
    printed = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in printed] == 4 * ["comparison"]
    assert "own inconsistencies" in (out / "comparison.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compare", "RUN", "--format", "pdf"], "--format 'pdf'"),
        (["compare", "RUN", "--format", "md,csv"], "with --out"),
        (["compare", "RUN", "--out", "RUN/run.json"], "is a file"),
        (["compare", "RUN", "--format", "latex", "--out", "table.tex"], "table.tex is a file; give a folder"),
        (
            ["report", "RUN", "--format", "latex", "--out", "tables.tex"],
            "tables.tex is a file; give a folder",
        ),
    ],
)
def test_wrong_input_is_told_in_one_line(make_run, capsys, arguments, said):
    path = str(make_run(accuracies=SMALL))
    assert main([argument.replace("RUN", path) for argument in arguments]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
