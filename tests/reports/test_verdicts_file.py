"""verdicts.csv: one line for each subject, threat model and budget, written wherever reports are."""

import shutil

import pandas as pd
import pytest

from robustbench_coded.cli.main import main
from robustbench_coded.reports.write import write_reports
from robustbench_coded.run import load_run


@pytest.fixture(scope="module")
def table(invented_run, tmp_path_factory):
    folder = shutil.copytree(invented_run, tmp_path_factory.mktemp("verdicts") / "run")
    write_reports(folder)
    written = (folder / "verdicts.csv").read_bytes()
    (folder / "verdicts.csv").unlink()
    assert main(["report", str(folder), "--quiet"]) == 0
    assert (folder / "verdicts.csv").read_bytes() == written
    return load_run(folder), pd.read_csv(folder / "verdicts.csv")


def test_a_line_for_each_judgement(table):
    """Its columns are those of docs/run-folder.md: tests/docs/test_run_folder_page.py."""
    run, lines = table
    assert len(lines) == len(run.judgements)
    for line, judgement in zip(lines.itertuples(), run.judgements):
        verdict = judgement.verdict
        assert (line.defence, line.threat, line.verdict) == (
            judgement.case.subject.defence,
            str(judgement.threat),
            verdict.name,
        )
        assert line.accuracy == pytest.approx(verdict.accuracy.estimate, abs=1e-6)
        if verdict.accuracy.kind is None:
            assert pd.isna(line.ci_low) and pd.isna(line.ci_high) and pd.isna(line.interval_kind)
        else:
            assert line.ci_low <= line.accuracy <= line.ci_high
        assert line.reason == verdict.reason
        checks = [] if pd.isna(line.open_checks) else line.open_checks.split(";")
        assert checks == list(verdict.open_checks)


def test_a_base_model_beside_its_defence_has_no_line_and_its_accuracy_stands_in_the_others(table):
    run, lines = table
    assert (lines.defence != "standard").all() and len(run.judged) > len(run.judgements)
    base = run.summary[(run.summary.defence == "standard") & (run.summary.attack == "ensemble")]
    assert set(lines.base_accuracy) == set(base.accuracy) and lines.gain_examples.notna().all()
    bounded = lines[lines.gain_interval_kind.notna()]
    assert (bounded.gain_low <= bounded.gain).all() and (bounded.gain <= bounded.gain_high).all()
    assert lines.clean_accuracy.notna().all()
