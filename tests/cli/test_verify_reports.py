"""Reports that say something else than their outcomes, and inputs of controls that are others."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest

from robustbench_coded.cli.main import main
from robustbench_coded.extras.verification import verify_reports
from robustbench_coded.runs.folder import sealed
from tests.run_folders import forge, perturbed, replace_perturbed

COMMITTED = Path(__file__).parents[2] / "reports" / "cifar10-resnet20"


@pytest.fixture(scope="module")
def untouched(digits_erm, tmp_path_factory):
    """Ordered batches of RCI, whose clean answers are not all right."""
    out = tmp_path_factory.mktemp("reports") / "run"
    words = (
        "eval", "--ckpt", digits_erm, "--data", "digits", "--limit", 32, "--batch-size", 16, "--eps", 0.2,
        "--rci", "N=16", "--attacks", "fgsm,pgd-3", "--save-adversarials", "--out", out, "--quiet",
    )  # fmt: skip
    assert main([str(word) for word in words]) == 0
    return out


@pytest.fixture
def run(untouched, tmp_path):
    return Path(shutil.copytree(untouched, tmp_path / "mailed"))


def contents(folder):
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def verified(csrobust, run):
    """Exit code, lines of inputs that do not hold, and differences of reports by their file."""
    answer = csrobust("verify", run, "--json")
    rows = json.loads(answer.out)
    reports = {row["file"]: row["differences"] for row in rows if "file" in row}
    return answer.code, [r for r in rows if "file" not in r and not r["holds"]], reports


@pytest.mark.parametrize("very", [True, False])
def test_an_honest_run_holds_wherever_it_lies_and_under_any_title(csrobust, run, very, monkeypatch):
    monkeypatch.setattr(verify_reports, "_is_ours", lambda manifest: very)
    reports = {name: [] for name in ("summary.csv", "verdicts.csv", "report.md", "report.html")}
    assert verified(csrobust, run) == (0, [], reports)
    title = "Table 3: *RCI* | <1.5> on www.example.org"
    assert csrobust("report", run, "--title", title, "--quiet").code == 0
    before = contents(run)
    assert verified(csrobust, run) == (0, [], reports)
    assert csrobust("show", run).err == ""
    for words in (("compare", run, COMMITTED), ("report", run, "--format", "latex,robustbench")):
        assert csrobust(*words, "--out", run.parent / "elsewhere").code == 0
    assert contents(run) == before, "reading changed the folder"
    (run / "report.html").unlink()
    assert "report.html: not there, so not compared" in csrobust("verify", run).out


def test_a_committed_run_of_an_earlier_csrobust_holds(csrobust):
    before = contents(COMMITTED)
    answer = csrobust("verify", COMMITTED)
    assert answer.code == 0 and "no answer is scored again" in answer.err
    assert re.findall(r"(\S+): holds \(\d+ cells? equal\)", answer.out) == [
        "summary.csv", "verdicts.csv", "report.md",
    ]  # fmt: skip
    assert contents(COMMITTED) == before


def edited(file, *pairs):
    text = file.read_text()
    for old, new in pairs:
        changed = re.sub(old, new, text)
        assert changed != text, old
        text = changed
    file.write_text(text)


FORGED = [
    ("summary.csv", (r"(?m)^(.*,rci,.*,ensemble,.*?,10,)[\d.]+,", r"\g<1>0.91,")),
    ("verdicts.csv", (r",(broken|no gain|not settled),[\d.]+,", ",no failure found,0.91,")),
    ("report.md", (r"(?m)^(\| RCI .*\| )[\d.]+ ", r"\g<1>91.0 ")),
    ("report.md", (r"(?i)\*\*(broken|no gain|not settled)[^*]*\*\*", "**no failure found.**")),
    ("report.html", (r'<span class="accuracy">[\d.]+', '<span class="accuracy">91.0')),
    ("report.html", (r'<span class="chip [^<]*<', '<span class="chip no-failure-found">no failure found<')),
]


@pytest.mark.parametrize(("name", "edit"), FORGED)
def test_a_forged_report_is_found_and_shown(csrobust, run, name, edit):
    edited(run / name, edit)
    code, inputs, reports = verified(csrobust, run)
    assert (code, inputs, [file for file, differences in reports.items() if differences]) == (1, [], [name])
    assert "91" in reports[name][0] or "no failure found" in reports[name][0]
    shown = csrobust("show", run)
    assert shown.code == 0 and f"{name} is not what its outcomes give: " in shown.err


@pytest.mark.parametrize("very", [True, False])
@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("report.md", (r"(?m)^\| RCI .*\n", "")),
        ("report.md", (r"## Their checks(.|\n)*?(?=\n## )", "")),
        ("report.md", (r"\| FGSM \|", "| FGSM-7 |")),
        ("report.md", (r"(?m)^(\| RCI .*\| )([\d.]+) \|", r"\g<1>9\g<2>* |")),
        (
            "report.html",
            (r'<span class="chip [^<]*<', '<span class="chip no-failure-found">no<!-- --> failure found<'),
        ),
        ("verdicts.csv", (",accuracy,ci_low,", ",robust,robust_low,")),
        ("run.json", ("", "")),
    ],
)
def test_what_is_gone_or_renamed_is_found_by_any_csrobust(csrobust, run, name, edit, very, monkeypatch):
    """Also a case that run.json names no more, under a new seal."""
    monkeypatch.setattr(verify_reports, "_is_ours", lambda manifest: very)
    if name == "run.json":
        facts = json.loads((run / name).read_text())
        facts["cases"] = [case for case in facts["cases"] if case["case"]["attack"] != "pgd-3"]
        (run / name).write_text(sealed(facts))
        assert csrobust("report", run, "--quiet").code == 0
    else:
        edited(run / name, edit)
    code, _, reports = verified(csrobust, run)
    assert (code, [file for file, differences in reports.items() if differences]) == (1, [name])


@pytest.mark.parametrize("control", ["clean", "random-sign"])
def test_answers_to_controls_are_scored_again(csrobust, run, control):
    forge(run, lambda rows: (rows["attack"] == control) & (rows["defence"] == "rci"))
    code, inputs, _ = verified(csrobust, run)
    assert code == 1 and {(row["attack"], row["defence"]) for row in inputs} == {(control, "rci")}


def test_grey_random_signs_are_no_random_signs(csrobust, run):
    cases = json.loads((run / "run.json").read_text())["cases"]
    for unit in (unit for case in cases if case["case"]["attack"] == "random-sign" for unit in case["units"]):
        tensors = perturbed(run, unit)
        tensors["x"][:] = 0.5
        replace_perturbed(run, unit, tensors)
    code, inputs, reports = verified(csrobust, run)
    assert code == 1 and not any(reports.values())
    assert {(row["attack"], row["outside"]) for row in inputs} == {("random-sign", 32)}
