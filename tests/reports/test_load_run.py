"""Run folders as anybody may hand them over."""

import json
import os

import pandas as pd
import pytest

from robustbench_coded.errors import InputError
from robustbench_coded.reports.text.escape import csv_table
from robustbench_coded.run import load_run
from robustbench_coded.runs.folder import sealed


def edit(path, change):
    """Changes run.json as a stranger would."""
    file = path / "run.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(sealed(manifest))


def test_accuracies_are_counted_from_the_outcomes(make_run):
    run = load_run(make_run())
    o = run.outcomes
    scoring = o[(o.purpose == "scoring") & (o.attack == "pgd-10") & (o.defence == "rci")]
    line = run.summary[(run.summary.attack == "pgd-10") & (run.summary.defence == "rci")].iloc[0]
    assert line.accuracy == pytest.approx((scoring.prediction == scoring.label).mean(), abs=1e-6)
    assert (line.examples, line.draws, line.status) == (128, 4, "done")
    assert line.forwards_per_example == pytest.approx(40 * 36 / 128)


def test_a_failed_and_a_missing_unit_make_their_rows_incomplete(make_run):
    run = load_run(make_run(failed=[("pgd-10", "rci")], missing=[("fgsm", "rci")]))
    rci = run.summary[run.summary.defence == "rci"].set_index(["threat", "attack"])
    for attack in ("pgd-10", "fgsm", "ensemble"):
        assert rci.loc[("batch/unknown", attack), "status"] == "incomplete"
    assert pd.isna(rci.loc[("batch/unknown", "pgd-10"), "accuracy"])
    assert rci.loc[("batch/unknown", "transfer-pgd-20"), "status"] == "done"
    errors = {failure.case.attack: failure.error for failure in run.failures}
    assert errors == {"pgd-10": "RuntimeError: <b>out of</b> memory", "fgsm": "it has not run yet"}
    judged = [j for j in run.judgements if j.subject.defence == "rci" and str(j.threat) == "batch/unknown"]
    # What the attacks with all of their outcomes decide is decided, whatever the others would leave.
    assert [(j.verdict.name, j.verdict.missing) for j in judged] == [("not settled", True)]


CASE = ("cases", 2, "case")


def _set(*where, value):
    def change(manifest):
        part = manifest
        for name in where[:-1]:
            part = part[name]
        part[where[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set("cases", value="many"), "cases: expected `array`, got `str`"),
        (_set(*CASE, "subject", "k", value="x"), "cases[2].case.subject.k: expected `int | null`, got `str`"),
        (
            _set(*CASE, "perturbation", "eps", value=float("nan")),
            "cases[2].case.perturbation.eps: expected `float` >=",
        ),
        (_set("cases", 2, "examples_planned", value=-1), "cases[2].examples_planned: expected `int` >= 0"),
        (_set(*CASE, "threat", "randomness", value="guessed"), "cases[2].case.threat: expected randomness"),
        (_set(*CASE, "attack", value="pgd-10; rm"), "cases[2].case.attack: 'pgd-10; rm'"),
        (
            _set(*CASE, "perturbation", "norm", value="linf-low8"),
            "cases[2].case.norm: 'linf-low8' is not a norm",
        ),
        (_set("cases", 0, "units", 0, value=["a"]), "cases[0].units[0]: expected `str`, got `array`"),
        (_set("checkpoints", 0, "sha256", value=7), "checkpoints[0].sha256: expected `str`, got `int`"),
    ],
)
def test_a_manifest_of_another_shape_is_refused_in_one_line(make_run, change, said):
    path = make_run()
    edit(path, change)
    with pytest.raises(InputError) as error:
        load_run(path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "where",
    [
        ("data",), ("probes",), ("finished",), ("identity", "data"), ("identity", "seed"),
        ("checkpoints", 0, "normalisation"), ("checkpoints", 0, "metadata"),
        ("invocations", 0, "versions"), ("invocations", 0, "machine"), ("invocations", 0, "options"),
        ("invocations", 0, "command"), ("invocations", 0, "git"),
    ],
    ids=lambda where: ".".join(map(str, where)),
)  # fmt: skip
@pytest.mark.parametrize(
    "value", [[1, [2]], "text", {"a": {"b": 1}}, -1e300], ids=["list", "text", "object", "number"]
)
def test_parts_that_only_inform_are_read_or_refused_in_one_line(make_run, where, value):
    from robustbench_coded.reports.render.markdown import markdown_report
    from robustbench_coded.reports.render.sections import report_of
    from robustbench_coded.reports.run.opening import opening_of

    path = make_run(
        accuracies={("clean", "batch/unknown"): (0.9, 0.8), ("fgsm", "batch/unknown"): (0.1, 0.2)}
    )
    if where == ("data",) and not isinstance(value, dict):
        value = {"name": value}
    edit(path, _set(*where, value=value))
    try:
        run = load_run(path)
    except InputError as refused:
        assert f"run.json: {where[0]}" in str(refused) and "\n" not in str(refused)
        return
    assert len(run.summary)
    assert "How it was measured" in markdown_report(report_of(run, opening_of(run)))
    json.dumps(run.as_data())


def test_json_data_holds_the_summary_and_the_verdicts(make_run):
    data = json.loads(json.dumps(load_run(make_run()).as_data()))
    assert {line["attack"] for line in data["summary"]} >= {"clean", "pgd-10", "ensemble", "strongest"}
    lines = load_run(make_run("csv")).verdicts
    assert all(set(lines.columns) <= set(v) for v in data["verdicts"])
    assert [v["accuracy"] for v in data["verdicts"]] == lines.accuracy.tolist()
    rci = [v for v in data["verdicts"] if v["defence"] == "rci" and v["threat"] == "batch/unknown"]
    assert [v["verdict"] for v in rci] == ["not settled"]
    assert {check["outcome"] for check in rci[0]["checks"]} <= {"passed", "failed", "not run"}


def test_csv_numbers_read_back_unchanged(make_run):
    import io

    summary = load_run(make_run()).summary
    read = pd.read_csv(io.StringIO(csv_table(summary)))
    for column in ("eps", "accuracy", "ci_low", "ci_high", "step_size"):
        pd.testing.assert_series_equal(read[column], summary[column].astype(float))
    assert read.k.dropna().unique().tolist() == [32]


def test_reports_need_no_torch():
    import subprocess
    import sys

    code = (
        "import sys; from robustbench_coded.reports import write; "
        "from robustbench_coded.reports.compare import comparison; "
        "from robustbench_coded.reports.render import terminal, latex; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "MPLBACKEND": "agg"})


def test_a_reason_is_said_once_unless_its_verdict_is_open(make_run):
    run = load_run(make_run())
    rules = {j.verdict.rule for j in run.judgements}
    still = [j for j in run.judgements if j.verdict.name == "not settled"]
    assert len(str(run).splitlines()) <= 1 + len(run.judgements) + len(rules) + len(still)
    assert all(j.verdict.reason in str(run) for j in still)


def test_a_run_without_a_verdict_has_nothing_to_plot(make_run):
    path = make_run(accuracies={("clean", "batch/unknown"): (0.9, 0.9)})
    with pytest.raises(InputError, match="nothing to plot; run its evaluation"):
        load_run(path).plot()
