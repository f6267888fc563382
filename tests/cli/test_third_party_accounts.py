"""What another package's attack says of itself, beside what is scored."""

import re

import pandas as pd
import pytest

from attacks.adapters.third_party import installed


@pytest.mark.skipif(not installed("autoattack"), reason="pyautoattack is not installed")
def test_a_suites_own_account_of_a_deterministic_defence_is_what_is_scored(tmp_path):
    from robustbench_coded.cli.main import main

    # All four stages: each asks again about what the one before left, and some write into the answers.
    suite, out = "autoattack:standard+n_iter=2+n_queries=20", tmp_path / "run"
    options = ["--no-standard", "--limit", "32", "--draws", "1", "--threads", "1"]
    options += ["--defence", "digits-pgd-at", "--attacks", suite, "--out", str(out), "--quiet"]
    assert main(["eval", *options]) == 0
    scored = pd.read_csv(out / "summary.csv").query("attack.str.startswith('autoattack')").accuracy.item()
    (account,) = re.findall(r"autoattack:\S+ itself reports ([\d.]+)%", (out / "details.md").read_text())
    assert scored > 0.5 and float(account) == pytest.approx(100 * scored, abs=0.05)
