"""The share of statements that the tests execute, by package: `make coverage` prints it."""

import json
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path


def by_package(report: Mapping[str, object]) -> dict[str, tuple[int, int]]:
    """Package -> statements executed, statements; of a JSON report of coverage."""
    counts: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    files: dict[str, dict[str, dict[str, int]]] = report["files"]  # type: ignore[assignment]
    for file, found in files.items():
        parts = Path(file).parts
        package = parts[0] if parts[0] == "attacks" or len(parts) == 2 else ".".join(parts[:2])
        counts[package][0] += found["summary"]["covered_lines"]
        counts[package][1] += found["summary"]["num_statements"]
    return {package: (executed, statements) for package, (executed, statements) in sorted(counts.items())}


STAND_IN = {"files": {"attacks/pgd.py": {"summary": {"covered_lines": 1, "num_statements": 2}}}}

if __name__ == "__main__":
    smoke = sys.argv[1] == "--smoke"
    table = by_package(STAND_IN if smoke else json.loads(Path(sys.argv[1]).read_text()))
    for package, (executed, statements) in table.items():
        print(f"{package:30} {100 * executed / max(statements, 1):5.1f}% of {statements:,}")
