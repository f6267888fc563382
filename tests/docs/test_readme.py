"""The tables of README.md are those of the committed reports (`make rewrite` after a change)."""

import re

import pytest

from robustbench_coded.cli.main import main
from tests.docs.conftest import ROOT, module_at

README = (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def findings():
    return module_at(ROOT / "docs" / "readme_findings.py")


@pytest.mark.parametrize("page", ["README.md", "docs/bias.md", "docs/finding.md", "reports/README.md"])
def test_tables_are_those_of_the_reports(findings, page):
    text = (ROOT / page).read_text()
    mending = f"{page} differs from reports/; run python docs/readme_findings.py and commit"
    assert findings.with_blocks(text) == text, mending


def test_a_page_counts_the_verdicts_by_what_is_true(findings):
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in findings.bias().splitlines()]
    counts = {(row[0], row[1]): [int(cell.split()[0]) for cell in row[2:]] for row in lines[2:]}
    assert all(row[0] == sum(row[1:]) > 0 for row in counts.values())
    broken = [
        row for row in findings._rows("zoo/zoo.csv") if row["broken"] == "True" and not row["third_party"]
    ]
    assert sum(row[0] for (truth, _), row in counts.items() if truth == "zoo: broken") == len(broken)
    positive_on_broken = sum(row[1] for (truth, _), row in counts.items() if truth.endswith(": broken"))
    negative_on_robust = sum(row[2] for (truth, _), row in counts.items() if truth.endswith(": robust"))
    assert (positive_on_broken, negative_on_robust) == (0, 2)
    said = "no broken defence of known robust accuracy a positive verdict, and two robust ones a negative"
    assert said in " ".join(findings.BIAS.read_text().split())


def test_truth_of_others_and_of_proofs_is_counted_before_the_development_set(findings):
    external, generated = findings.truth().splitlines()
    broken = [row for row in findings._outside() if row[1] == "broken"]
    assert f"of {sum(sum(row[2:]) for row in broken)} cases" in external
    rows = [row for row in findings._rows("soundness/soundness.csv") if row["tool"] == "csrobust"]
    far = [row for row in rows if abs(float(row["accuracy"]) - float(row["truth"])) > 0.03]
    assert f"csrobust is off by more than 3 points on {len(far)} of {len(rows)}, " in generated
    assert (
        "csrobust's verdict is wrong on none." in generated
    )  # ensemble-third, 80.2 [68.3, 89.1] of a true 66.7, is open
    for page in (README, findings.BIAS.read_text()):
        assert page.index("reports/soundness/") < page.index("reports/zoo/")
    order = [line.split(" ")[1] for line in findings.bias().splitlines()[2:]]
    assert order.index("generated:") < order.index("zoo:") == len(order) - order.count("zoo:")


def test_a_run_of_several_commits_or_without_the_protocol_is_named(findings):
    given = [("a", "1"), ("a", ""), ("a b", "1")]
    alone = [findings.one_commit({"commit": commit, "protocol": protocol}) for commit, protocol in given]
    assert alone == [True, False, False]


def test_a_changed_figure_is_written_anew(findings):
    changed = README.replace("| 97.7 |", "| 98.7 |")
    assert changed != README and findings.with_blocks(changed) == README


def test_the_printed_result_of_the_first_command_is_what_it_prints(tmp_path, capsys):
    """Its figures and its words; the rest of the run depends on the machine."""
    (line,) = (line for line in README.splitlines() if line.startswith("csrobust eval"))
    words = line.split()[1:]
    words[-1] = str(tmp_path / "first")
    assert main([*words, "--quiet", "--until", "settled"]) == 0
    (printed,) = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
    assert " ".join(printed.split()) in " ".join(capsys.readouterr().out.split())


def test_the_first_command_stands_on_the_first_screen_and_the_page_is_short():
    lines = README.splitlines()
    assert next(i for i, line in enumerate(lines) if line.startswith("csrobust eval")) < 30
    assert len([word for word in README.split() if any(map(str.isalnum, word))]) <= 750


def test_third_parties_are_marked_on_the_right_side_of_the_truth(findings):
    assert findings._side(0.90, 0.94, 0.95) == "too low"
    assert findings._side(0.99, 0.94, 0.95) == "too high"
    assert findings._side(0.97, 0.94, 0.95) == ""
