"""docs/paper.md: figures that stand in tables of benchmarks."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_costs_of_table_4_are_those_of_the_table_that_is_linked():
    page = " ".join((ROOT / "docs" / "paper.md").read_text().split())
    table = (ROOT / "benchmarks" / "speed" / "speed-cpu.md").read_text()
    section = table.partition("### Inference, Table 4")[2].partition("\n### ")[0]
    cost = {
        name: f"{float(ratio):.2f}"
        for name, ratio in re.findall(r"\| \d+ \| (\w+ K=128 N=\d+) \|[^|]+\| ([\d.]+) \[", section)
    }
    assert (
        f"coded inference costs {cost['coded K=128 N=128']} times standard inference at N = K = 128 and "
        f"{cost['coded K=128 N=192']} times at N = 192, RCI {cost['RCI K=128 N=128']} and "
        f"{cost['RCI K=128 N=192']} times"
    ) in page
