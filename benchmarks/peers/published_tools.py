"""Attack tools on the linf networks of `published_weights.py`, at csrobust's gradient evaluations.

    python benchmarks/peers/published_tools.py --weights DIR --shared DIR FOLDER

Writes the table of tools in `published_weights.md`. Needs the libraries of `benchmarks/soundness/tools.py`.
FOLDER keeps runs and figures, so a stopped command goes on.
"""

import argparse
import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.bench.table import pipes
from benchmarks.errors.coverage import write
from benchmarks.errors.twin_parameters import Defended
from benchmarks.peers.published_truth import ROWS, Network
from benchmarks.peers.published_weights import PAGE, evaluate_row, missing, test_images
from benchmarks.soundness.tools import TOOLS, missing_tools, tried
from robustbench_coded.runs.atomic import write_text

LINF = [row for row in ROWS if row.norm == "linf"]


def figures(network: Network, weights: Path, shared: Path, folder: Path) -> dict[str, Any]:
    """What csrobust and each tool leave of the same images, and gradient evaluations per image."""
    x, y = (part[: network.examples] for part in test_images(network.data, shared))
    row = evaluate_row(network, weights, folder, x, y, norm="linf", eps=network.eps)
    model = network.build(weights / network.file).eval()

    def answer(images: Tensor, _: None) -> Tensor:
        logits: Tensor = model(images)
        return logits

    found = {"csrobust": (row.estimate, row.gradients)}
    for tool in TOOLS:
        account = tried(tool, Defended("", answer), x, y, float(Fraction(network.eps)), row.gradients)
        found[tool] = (account.standing / account.examples, account.gradients)
    return found


def table(found: dict[str, dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    """A row for each network: what every tool leaves, and what it spent on each image."""
    yield "network", "eps", "published robust accuracy", "csrobust", *TOOLS
    for network in LINF:
        if network.name in found:
            bounds = f"{100 * network.low:.1f} to {100 * network.high:.1f}%"
            cells = (found[network.name][tool] for tool in ("csrobust", *TOOLS))
            shown = (f"{100 * accuracy:.1f}% ({spent:,.0f})" for accuracy, spent in cells)
            yield network.name, network.eps, bounds, *shown


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/mnist")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    if absent := [*missing(options.weights), *missing_tools()]:
        raise SystemExit("missing:\n  " + "\n  ".join(absent))
    options.folder.mkdir(parents=True, exist_ok=True)
    stored = options.folder / "tools.json"
    found = json.loads(stored.read_text()) if stored.exists() else {}
    for network in LINF:
        if network.name not in found:
            found[network.name] = figures(network, options.weights, options.shared, options.folder)
            write_text(stored, json.dumps(found))
            print(network.name, found[network.name], flush=True)
    write("tools", pipes(list(table(found))), PAGE)


if __name__ == "__main__":
    main()
