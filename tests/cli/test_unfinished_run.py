"""A run that is killed lists everything that is still to come, and hands nobody a robust accuracy."""

import json

import pytest

from robustbench_coded.run import load_run
from robustbench_coded.runs.folder import RunFolder

OPTIONS = (
    "--data", "digits", "--limit", "24", "--batch-size", "12", "--attacks", "fgsm,pgd-2,pgd-3",
    "--eps", "0.1", "--until", "settled", "--rci", "N=18", "--draws", "2", "--threads", "1", "--quiet",
)  # fmt: skip


@pytest.mark.long
def test_what_a_killed_run_has_not_begun_is_listed_and_resumed(csrobust, digits_erm, tmp_path, monkeypatch):
    command = ("eval", "--ckpt", digits_erm, *OPTIONS, "--out", tmp_path / "run")
    commit, committed = RunFolder.commit, []

    def killed(folder, unit, *parts):
        if len(committed) == 3:
            raise KeyboardInterrupt
        committed.append(unit)
        commit(folder, unit, *parts)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "commit", killed)
        assert csrobust(*command).code == 130
    run = load_run(tmp_path / "run")
    planned = {record.case for record in run.manifest.cases}
    for defence in ("standard", "rci"):
        named = {case.attack for case in planned if case.subject.defence == defence}
        assert named >= {"fgsm", "pgd-2", "pgd-3"}
    without = {result.case for result in run.results if result.case in planned and not result.complete}
    assert {failure.case for failure in run.failures} == without
    assert run.missing == f"{len(without)} of {len(planned)} planned cases lack outcomes"
    shown = csrobust("show", tmp_path / "run", "--json")
    listed = json.loads(shown.out)["failures"]
    assert {(row["attack"], row["defence"]) for row in listed} == {
        (case.attack, case.subject.defence) for case in without
    }
    assert csrobust("report", tmp_path / "run").code == 0
    text = (tmp_path / "run" / "report.md").read_text()
    section = text.partition("## What did not run")[2].partition("\n## ")[0]
    assert run.missing in text and all(case.attack in section for case in without)
    assert len([line for line in section.splitlines() if line.startswith("- ")]) < len(without)
    refused = csrobust("report", tmp_path / "run", "--format", "robustbench", "--out", tmp_path / "out")
    assert refused.code == 2 and run.missing in refused.err
    assert csrobust(*command).code == 0
    whole = ("eval", "--ckpt", digits_erm, *OPTIONS, "--out", tmp_path / "whole")
    assert csrobust(*whole).code == 0
    for name in ("summary.csv", "verdicts.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert load_run(tmp_path / "run").missing == ""
