"""docs/choose-attacks.md: its options parse, and no attack of the run is much stronger than what decided."""

import re
import shlex

import pytest

from benchmarks.evidence import rows_of
from docs.run_tables import CHOICES
from tests.cli.conftest import parsed

AS_STRONG = 0.01  # robust accuracy by which an attack may miss the strongest: others broke as much


@pytest.mark.parametrize(("options", "run", "attack"), [row[2:] for row in CHOICES], ids=lambda value: value)
def test_the_options_of_a_row_parse_and_its_attack_decided(options, run, attack):
    parsed("eval", "--ckpt", "model.pt", *shlex.split(options))
    named = re.search(r"--defence (\S+)", options)
    defence = named[1] if named else "rci" if "--rci" in options else "standard"
    subjects = {}
    for row in rows_of(run, "summary"):
        evaluated = (row["defence"].split("[")[0], row["threat"])
        if evaluated == (defence, "batch/unknown") and row["attack"] != "clean":
            accuracy = float(row["own_accuracy"] or row["accuracy"])
            subjects.setdefault((row["checkpoint"], row["eps"], row["n"]), {})[row["attack"]] = accuracy
    assert subjects and all(left[attack] <= left["strongest"] + AS_STRONG for left in subjects.values())
