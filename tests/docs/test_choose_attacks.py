"""docs/choose-attacks.md: its options parse; what decided and what it cost are those of the linked runs."""

import csv
import re
import shlex
from pathlib import Path

import pytest

from benchmarks.evidence import page_of, rows_of
from tests.cli.conftest import parsed

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "choose-attacks.md").read_text()
ROW = re.compile(r"\| `(--.+?)` \| \[`(\S+?)`\]\(\.\./reports/(\S+?)\) \| \[([\d.]+) min\]")
ROWS = ROW.findall(PAGE)
AS_STRONG = 0.01  # robust accuracy by which an attack may miss the strongest: others broke as much


COST = {row["run"]: row["minutes"] for row in csv.DictReader((ROOT / "reports" / "evidence.csv").open())}
RUN_OF = {page_of(run): run for run in COST}


def test_every_row_of_the_table_is_read():
    assert len(ROWS) == sum(line.startswith("| ") for line in PAGE.splitlines()) - 2 == 9


@pytest.mark.parametrize("options", [row[0] for row in ROWS])
def test_the_options_of_a_row_parse(options):
    parsed("eval", "--ckpt", "model.pt", *shlex.split(options))


@pytest.mark.parametrize(("options", "attack", "page", "minutes"), ROWS, ids=[row[2] for row in ROWS])
def test_what_decided_and_its_cost_are_those_of_the_run(options, attack, page, minutes):
    assert minutes == COST[RUN_OF[page]]
    named = re.search(r"--defence (\S+)", options)
    defence = named[1] if named else "rci" if "--rci" in options else "standard"
    subjects = {}
    for row in rows_of(RUN_OF[page], "summary"):
        evaluated = (row["defence"].split("[")[0], row["threat"])
        if evaluated == (defence, "batch/unknown") and row["attack"] != "clean":
            accuracy = float(row["own_accuracy"] or row["accuracy"])
            subjects.setdefault((row["checkpoint"], row["eps"], row["n"]), {})[row["attack"]] = accuracy
    assert subjects and all(left[attack] <= left["strongest"] + AS_STRONG for left in subjects.values())
