"""The league over all eps: the area between each attack's curve of accuracy and the lowest of all.

    python benchmarks/peers/league_area.py [--shared DIR] [--examples 100] [--budget 100]

Writes benchmarks/peers/league_area.md. It runs where the league does (`benchmarks/peers/league.sh`), with its
attacks and its counter.
"""

import argparse
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch

from benchmarks.bench.table import pipes
from benchmarks.peers.league import measured
from benchmarks.peers.league_attacks import LIBRARIES, installed, missing
from benchmarks.peers.league_networks import ENTRIES, SHARED, Network, Sources, Subject
from robustbench_coded.runs.atomic import write_text

OUT = Path(__file__).with_suffix(".md")
NETWORKS = ("digits-pgd-at", "mnist-pgd-madry")
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)  # of the league's eps
ABOUT = """# The league over all eps

The area between an attack's curve of accuracy over eps and the lowest of all attacks here, in points on
average over eps (arXiv 2404.19460; 0 where no attack leaves less at any eps): of each library, the attack
with the smallest. {examples} test images, l-infinity, {budget:,} images for an example at each eps, counted
as in the league (reports/league); eps are {shares} times the league's.

"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--budget", type=int, default=100)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if absent := missing():
        raise SystemExit(f"not installed: {', '.join(absent)}")
    rows = [("library", *(f"{name}, eps to {SHARES[-1] * _entry(name).eps:g}" for name in NETWORKS))]
    areas = {
        name: _areas(name, Sources(given.shared, examples=given.examples), given.budget) for name in NETWORKS
    }
    for library in LIBRARIES:
        cells = []
        for name in NETWORKS:
            of = {attack: area for (each, attack), area in areas[name].items() if each == library}
            best = min(of, key=of.__getitem__)
            cells.append(f"{of[best]:.2f} {best}")
        rows.append((library, *cells))
    shares = ", ".join(f"{share:g}" for share in SHARES)
    about = ABOUT.format(examples=given.examples, budget=given.budget, shares=shares)
    write_text(OUT, f"{about}{pipes(rows)}\n")


def _entry(name: str) -> Network:
    return next(entry for entry in ENTRIES if isinstance(entry, Network) and entry.name == name)


def _areas(name: str, sources: Sources, budget: int) -> dict[tuple[str, str], float]:
    """(library, attack) -> points above the lowest of all, on average over eps."""
    entry = _entry(name)
    curves: dict[tuple[str, str], dict[float, float]] = {}
    network, x, y = entry.plain(sources)
    subject, clean = Subject(network, x, y), float((network(x).argmax(1) == y).double().mean())
    for library, attack, run in installed(False, subject.classes):
        curve = {0.0: clean}
        for share in SHARES[1:]:
            at = replace(entry, eps=share * entry.eps)
            curve[at.eps] = measured(at, library, attack, run, subject, budget).left / 100
        curves[library, attack] = curve
        print(name, library, attack, *(f"{left:.2f}" for left in curve.values()), flush=True)
    return {key: 100 * excess(curve, list(curves.values())) for key, curve in curves.items()}


def excess(curve: Mapping[float, float], curves: Sequence[Mapping[float, float]]) -> float:
    """The area between an attack's curve and the lowest of all, per unit of eps (arXiv 2404.19460).

    Args:
        curve: eps -> accuracy, two points or more, between which it is linear; one of ``curves``.

    Returns:
        A mean difference of accuracies over the curve's range of eps, 0 where no other attack leaves less.
    """
    at = sorted(curve)
    over = [curve[eps] - min(other.get(eps, 1.0) for other in curves) for eps in at]
    steps = zip(pairwise(at), pairwise(over), strict=True)
    return sum((b - a) * (p + q) / 2 for (a, b), (p, q) in steps) / (at[-1] - at[0])


if __name__ == "__main__":
    main()
