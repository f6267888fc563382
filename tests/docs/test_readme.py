"""What docs/readme_findings.py counts for README.md and docs/bias.md; test_figures.py compares the pages."""

import pytest

from tests.docs.conftest import ROOT, module_at

README = (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def findings():
    return module_at(ROOT / "docs" / "readme_findings.py")


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
    said = "no broken defence gets a positive one, and two robust ones get a negative one"
    assert said in " ".join(findings.BIAS.read_text().split())


def test_truth_of_others_and_of_proofs_is_counted(findings):
    external, generated = findings.truth().splitlines()
    broken = [row for row in findings._outside() if row[1] == "broken"]
    assert f"of {sum(sum(row[2:]) for row in broken)} cases" in external
    rows = [row for row in findings._rows("soundness/soundness.csv") if row["tool"] == "csrobust"]
    far = [row for row in rows if abs(float(row["accuracy"]) - float(row["truth"])) > 0.03]
    assert f"csrobust is off by more than 3 points on {len(far)} of {len(rows)}, " in generated
    assert "csrobust's verdict is wrong on none." in generated  # ensemble-third is open


def test_a_run_of_several_commits_or_without_the_protocol_is_named(findings):
    given = [("a", "1"), ("a", ""), ("a b", "1")]
    alone = [findings.one_commit({"commit": commit, "protocol": protocol}) for commit, protocol in given]
    assert alone == [True, False, False]


def test_third_parties_are_marked_on_the_right_side_of_the_truth(findings):
    assert findings._side(0.90, 0.94, 0.95) == "too low"
    assert findings._side(0.99, 0.94, 0.95) == "too high"
    assert findings._side(0.97, 0.94, 0.95) == ""


@pytest.mark.long
def test_the_table_of_two_defences_is_what_its_commands_write(findings):
    table = findings.compared(README)
    shown = README.split("<!-- compared: begin -->\n\n")[1].split("\n\n<!-- compared: end -->")[0]
    assert shown == table, "run python docs/readme_findings.py compared and commit"
