"""Other attack tools on published networks, at csrobust's gradient evaluations: in `published_weights.md`.

    python -m benchmarks.peers.published_tools --weights DIR --shared DIR FOLDER [NAME ...]

FOLDER is that of `published_weights.py`, which ran before: its rows say how many gradient evaluations
csrobust took. Tools and their settings are those of `benchmarks/soundness`, on the same images.
"""

import argparse
import json
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.bench.table import pipes
from benchmarks.errors.coverage import write
from benchmarks.peers.published_truth import CLAIMS, FEWER, ROWS, Claim, Network
from benchmarks.peers.published_weights import PAGE, Row, stored_row, test_images
from benchmarks.soundness.tools import TOOLS, Account, Ball, Metered, missing_tools, tried
from robustbench_coded.options.values import fraction
from robustbench_coded.runs.atomic import write_text

OURS = "csrobust"
PUBLISHED: tuple[Network | Claim, ...] = (*ROWS, CLAIMS[0])
NETWORKS = {row.name: row for row in PUBLISHED if row.norm in ("linf", "l2")}  # norms that every tool has


def accounts(row: Network | Claim, gradients: float, weights: Path, shared: Path, stored: Path) -> None:
    """Runs the tools that STORED lacks."""
    images = row.examples if isinstance(row, Network) else FEWER
    x, y = (part[:images].contiguous() for part in test_images(row.data, shared))
    found = accounts_of(stored)
    ball = Ball(row.norm, fraction(row.eps, "eps"))
    for tool in TOOLS:
        if tool not in found and tool not in missing_tools():
            model = Metered(row.build(weights / row.file).eval())
            found[tool] = tried(tool, model, x.clone(), y, ball, gradients)
            write_text(stored, json.dumps({name: asdict(one) for name, one in found.items()}, indent=1))
            print(row.name, tool, found[tool], flush=True)


def accounts_of(stored: Path) -> dict[str, Account]:
    """What tools said of a network; none without a file."""
    if not stored.exists():
        return {}
    return {tool: Account(**kept) for tool, kept in json.loads(stored.read_text()).items()}


def stored_accounts(folder: Path) -> dict[str, tuple[Row, dict[str, Account]]]:
    """csrobust's row and the tools' accounts, for each network of which FOLDER has both."""
    found = {}
    for name in NETWORKS:
        tools = accounts_of(place(folder, name))
        for row in stored_row(folder, name) if tools else ():
            found[name] = row, tools
    return found


def place(folder: Path, name: str) -> Path:
    return folder / f"{name.replace(' ', '-')}.tools.json"


def left(row: Row, tools: Mapping[str, Account]) -> dict[str, float]:
    """Robust accuracy that each tool reports."""
    return {OURS: row.estimate} | {tool: one.standing / one.examples for tool, one in tools.items()}


def by_network(found: Mapping[str, tuple[Row, dict[str, Account]]]) -> Iterator[tuple[str, ...]]:
    """What each tool leaves of each network."""
    yield ("network", "norm, eps", "images", OURS, *TOOLS)
    for name, (row, tools) in found.items():
        reported = left(row, tools)
        cells = (f"{reported[tool]:.1%}" if tool in reported else "" for tool in (OURS, *TOOLS))
        yield (name, f"{NETWORKS[name].norm}, {NETWORKS[name].eps}", str(row.images), *cells)


def by_tool(found: Mapping[str, tuple[Row, dict[str, Account]]]) -> Iterator[tuple[str, ...]]:
    """How far above the best tool each one ends, and at what cost."""
    yield ("tool", "networks", "leaves least", "points above the least, mean", "most",
           "gradient evaluations per image, median", "CPU seconds")  # fmt: skip
    for tool in (OURS, *TOOLS):
        above, gradients, seconds = [], [], 0.0
        for row, tools in found.values():
            reported = left(row, tools)
            if tool in reported:
                cost = row if tool == OURS else tools[tool]
                above.append(100 * (reported[tool] - min(reported.values())))
                gradients.append(cost.gradients)
                seconds += cost.seconds
        if above:
            least = sum(points < 1e-6 for points in above)
            yield (tool, str(len(above)), str(least), f"{statistics.mean(above):.2f}", f"{max(above):.1f}",
                   f"{statistics.median(gradients):,.0f}", f"{seconds:.0f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/mnist")
    parser.add_argument("--tables", action="store_true", help="Write the page from FOLDER; run nothing.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in () if options.tables else options.names or NETWORKS:
        for row in stored_row(options.folder, name):
            accounts(
                NETWORKS[name], row.gradients, options.weights, options.shared, place(options.folder, name)
            )
    found = stored_accounts(options.folder)
    tables = (pipes(list(by_network(found))), pipes(list(by_tool(found))))
    write("tools", "\n\n".join(tables), PAGE)


if __name__ == "__main__":
    main()
