"""What the one process that hands out units and commits them pays for each, measured on this machine.

python benchmarks/speed/schedule_costs.py             prints the costs (half a minute)
python benchmarks/speed/schedule_costs.py --write     and keeps them for benchmarks/speed/schedule.py
"""

import argparse
import json
import logging
import os
import pickle
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from benchmarks.speed.own_files import own_files
from robustbench_coded.runs.adversarials import encoded
from robustbench_coded.runs.folder import RunFolder
from robustbench_coded.runs.outcomes import read_table

ROOT = Path(__file__).parents[2]
RUN = ROOT / "reports" / "digits"
COSTS = Path(__file__).with_suffix(".json")
UNITS, TRIES = 100, 9
WAITED_FOR = (1_000, 10_000)


@dataclass(frozen=True)
class Costs:
    """Seconds of the committing process; medians over units of a real run, of the fastest of some tries.

    Attributes:
        unpack: to receive a unit's rows from a worker.
        commit: to write them, force them to the disk and rename them.
        read: to read a committed unit again and check its hash: on going on, after each round and in reports.
        wait: to ask Ray which workers are through, for each worker that is busy.
        load: processes that wanted to run meanwhile, for each processor; above 1 the rest is too dear.
    """

    unpack: float
    commit: float
    read: float
    wait: float
    load: float

    def of_one(self, workers: int) -> float:
        """Seconds for one outcome while so many workers are busy; the engine asks twice."""
        return self.unpack + self.commit + 2 * self.wait * workers


def measure() -> Costs:
    """The costs here: the disk is the one that this repository lies on."""
    with own_files(RUN) as own:
        files = sorted((own / "outcomes").glob("*.parquet"))[:UNITS]
        units = {file.stem: read_table(file) for file in files}
        read = _median([_seconds(partial(read_table, file)) for file in files])
    sent = {unit: pickle.dumps(SimpleNamespace(rows=rows, unit=unit)) for unit, (rows, _) in units.items()}
    with tempfile.TemporaryDirectory(dir=ROOT) as folder, RunFolder(Path(folder) / "run") as run:
        commit = [
            _seconds(partial(run.commit, unit, rows, metadata, {"seconds": 1.0}, encoded({})))
            for unit, (rows, metadata) in units.items()
        ]
    return Costs(
        unpack=_median([_seconds(partial(pickle.loads, content)) for content in sent.values()]),
        commit=_median(commit),
        read=read,
        wait=_waiting(),
        load=round(os.getloadavg()[0] / (os.cpu_count() or 1), 1),
    )


def _waiting() -> float:
    """Seconds of one call of ray.wait for each answer that is awaited."""
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        never = ray.remote(num_cpus=0, resources={"nowhere": 1})(lambda: None)
        awaited = [never.remote() for _ in range(WAITED_FOR[-1])]
        few, many = (
            _seconds(partial(ray.wait, awaited[:count], num_returns=1, timeout=0)) for count in WAITED_FOR
        )
    finally:
        ray.shutdown()
    return max(0.0, many - few) / (WAITED_FOR[1] - WAITED_FOR[0])


def _seconds(call: Callable[[], object]) -> float:
    """Of the fastest try: the others pay for whatever else the machine does."""
    taken = []
    for _ in range(TRIES):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return min(taken)


def _median(seconds: list[float]) -> float:
    return float(f"{statistics.median(seconds):.3g}")


def kept() -> Costs:
    """The costs that were measured last."""
    return Costs(**json.loads(COSTS.read_text()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help=f"keep them in {COSTS.name}")
    options = parser.parse_args()
    costs = measure()
    text = json.dumps(asdict(costs), indent=1) + "\n"
    print(text, end="")
    if options.write:
        COSTS.write_text(text)


if __name__ == "__main__":
    main()
