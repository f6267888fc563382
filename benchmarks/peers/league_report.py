"""The comparison of attack libraries as files: a page, all figures as CSV, and accuracy against cost."""

import csv
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from robustbench_coded.runs.atomic import write_text

OURS = "csrobust"
CLOSE = 0.2  # points
AREA = Path(__file__).with_name("league_area.md")  # over all eps, measured once
PACKAGES = {"ART": "adversarial-robustness-toolbox"}
ACROSS = 3  # curves in a row of the figure
GRID = sorted({round(10 ** (k / 8)) for k in range(33)})

INTRODUCTION = """# Attacks of six libraries at equal budgets

{answer}

Robust accuracy in percent on the first {examples} test images of each network (l-infinity). A forward
pass of an image costs 1 and its gradient 1 more, counted at the network for every library. An attack
stops when its budget is spent. Its number of steps fits the budget, and its other options are the
defaults. Suites (`aa`, `standard`, `rand`) and the two strongest attacks of each library at the first
budget also run at the larger budgets. `benchmarks/peers/league.sh` writes this page.

Each library is represented by its strongest attack at that budget, selected on the same images. With
{examples} images, one image is {one:.1f} points. The last column says "first" if no other library is
stronger than csrobust, and otherwise by how many points csrobust is behind. Each attack ran once, so an
image or two may be chance.
"""
DETERMINISTIC = """
## Deterministic networks

An image is broken by the first misclassified query inside its ball, for every library, even if the
library does not return that query.
"""
RANDOM = """
## Random defences

Accuracy is the share of correct predictions at the point that an attack returns, under 1,000 fresh draws
(100 for digits-erm-rci, 20 for lwta-wrn34-1) that are the same for all attacks. If the budget ends an
attack, its last query counts. No attack has a base model. The known accuracy is that of the best possible
attack on a defence of the zoo. lwta-wrn34-1 is attacked on 32 images. Attacks that need four classes do
not run on two.
"""


def write(
    out: Path,
    results: Sequence[Any],
    examples: int,
    entries: Sequence[Any],
    missing: Sequence[str],
    left_out: Sequence[str],
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "report.md", _page(results, examples, entries, missing, left_out))
    _table(out / "league.csv", results)
    fixed = [r for r in results if r.right is None]
    best = {key: _best(group) for key, group in _groups(fixed).items()}
    largest = {network: max(r.budget for r in fixed if r.network == network) for network, _, _ in best}
    curves = [r for r in best.values() if r.budget == largest[r.network]]
    _curves_csv(out / "curves.csv", curves)
    if curves:
        _figure(out / "curves.png", curves, entries)


def _groups(results: Sequence[Any]) -> dict[tuple[str, int, str], list[Any]]:
    groups: dict[tuple[str, int, str], list[Any]] = {}
    for r in results:
        groups.setdefault((r.network, r.budget, r.library), []).append(r)
    return groups


def _best(group: Sequence[Any]) -> Any:
    return min(group, key=lambda r: (r.left, r.images))


def _page(
    results: Sequence[Any],
    examples: int,
    entries: Sequence[Any],
    missing: Sequence[str],
    left_out: Sequence[str],
) -> str:
    libraries = list(dict.fromkeys(r.library for r in results))
    fixed, drawn = ([r for r in results if (r.right is None) == fixed] for fixed in (True, False))
    standings = [_standings(group, libraries, entries) if group else [""] for group in (fixed, drawn)]
    answer = " ".join(filter(None, (table.pop() for table in standings)))
    lines = [INTRODUCTION.format(answer=answer, examples=examples, one=100 / examples)]
    lines.append("CSV: [league.csv](league.csv), [curves.csv](curves.csv).")
    if fixed:
        lines += [DETERMINISTIC, *standings[0], "\n![curves](curves.png)"]
        lines += _every_attack(fixed, entries)
        lines.append("\n" + AREA.read_text().replace("# Over", "## Over").strip())
    if drawn:
        lines += [RANDOM, *standings[1], *_every_attack(drawn, entries)]
    reported = {r.network for r in results}
    if unmeasured := [e.name for e in entries if e.name not in reported and e.name not in left_out]:
        lines.append(f"\nNot measured: {', '.join(unmeasured)}.")
    if missing:
        lines.append(f"\nNot installed where this was made: {', '.join(missing)}.")
    if left_out:
        lines.append(f"\nWithout their checkpoints where this was made: {', '.join(left_out)}.")
    raised: dict[tuple[str, str], dict[str, None]] = {}
    for r in results:
        if r.note:
            raised.setdefault((r.network, r.note), {})[f"{r.library} {r.attack}"] = None
    if raised:
        lines.append("\nErrors that attacks raised (their queries until then count):\n")
        lines += [f"- {network}: {note} ({', '.join(those)})" for (network, note), those in raised.items()]
    lines.append("\n" + "; ".join(_versions(libraries)) + ".")
    return "\n".join(lines) + "\n"


def _standings(results: Sequence[Any], libraries: Sequence[str], entries: Sequence[Any]) -> list[str]:
    """A row for each network and budget, and then a sentence that counts where csrobust is first."""
    groups, known = _groups(results), any(r.right is not None for r in results)
    truth = "known accuracy | " if known else ""
    lines = [f"| network, eps | budget | {truth}" + " | ".join(libraries) + " | csrobust is |"]
    lines.append("| --- | ---: |" + " ---: |" * (len(libraries) + known) + " --- |")
    rows = behind = 0
    for entry in entries:
        for budget in sorted({r.budget for r in results if r.network == entry.name}):
            best = {library: _best(groups[entry.name, budget, library]) for library in libraries}
            least = min(r.left for library, r in best.items() if library != OURS)
            gap = best[OURS].left - least
            leaders = [library for library in libraries if library != OURS and best[library].left == least]
            luck = max(_luck(best[OURS], best[library]) for library in leaders)
            word = "first" if gap <= 0 else f"{gap:.1f} behind {', '.join(leaders)}"
            word += f"; draws alone move this by {luck:.1f}" if 0 < gap <= luck else ""
            rows, behind = rows + 1, behind + (gap > max(CLOSE, luck))
            cells = " | ".join(f"{best[library].left:.1f}" for library in libraries)
            truth = f"{_truth(best[OURS].truth)} | " if known else ""
            lines.append(f"| {entry.name}, {entry.eps:.3g} | {budget:,} | {truth}{cells} | {word} |")
    what, within = ("random defences", " or the spread of draws") if known else ("deterministic networks", "")
    lines.append(
        f"On {what}, csrobust's attacks are the strongest or within {CLOSE} points{within} of the strongest "
        f"in {rows - behind} of {rows} pairs of network and budget."
    )
    return lines


def _luck(first: Any, second: Any) -> float:
    """Two standard errors of a difference, in points, under the draws that both were asked."""
    if first.right is None:
        return 0.0
    return 200 * float((first.right - second.right).std() / len(first.right) ** 0.5)


def _truth(bounds: tuple[float, float] | None) -> str:
    if bounds is None:
        return ""
    low, high = (f"{bound:.1f}" for bound in bounds)
    return low if low == high else f"{low} to {high}"


def _every_attack(results: Sequence[Any], entries: Sequence[Any]) -> list[str]:
    lines = []
    for budget in sorted({r.budget for r in results}):
        names = [e.name for e in entries if any(r.network == e.name for r in results)]
        lines.append(f"\n### Every attack, {budget:,} images\n")
        lines.append("| library | attack | " + " | ".join(names) + " |")
        lines.append("| --- | --- |" + " ---: |" * len(names))
        order = list(dict.fromkeys(r.library for r in results))
        attacks = dict.fromkeys((r.library, r.attack) for r in results)
        for library, attack in sorted(attacks, key=lambda names: order.index(names[0])):
            at = [r for r in results if (r.library, r.attack, r.budget) == (library, attack, budget)]
            of = {r.network: r.left for r in at}
            cells = " | ".join(f"{of[name]:.1f}" if name in of else "" for name in names)
            if of:
                lines.append(f"| {library} | {attack} | {cells} |")
    return lines


def _versions(libraries: Sequence[str]) -> list[str]:
    found = []
    for library in (*libraries, "torch"):
        try:
            found.append(f"{library} {version(PACKAGES.get(library, library))}")
        except PackageNotFoundError:
            found.append(library)
    return found


def _table(path: Path, results: Sequence[Any]) -> None:
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["network", "library", "attack", "budget", "left", "images", "cpu_seconds", "note"])
        for r in results:
            figures = (f"{r.left:.2f}", f"{r.images:.1f}", f"{r.seconds:.2f}")
            rows.writerow([r.network, r.library, r.attack, r.budget, *figures, r.note])


def _curves_csv(path: Path, curves: Sequence[Any]) -> None:
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["network", "library", "attack", "images", "left"])
        for r in curves:
            for images in (0, *GRID):
                if images <= r.budget:
                    left = 100 * float((r.broken_at > images).double().mean())
                    rows.writerow([r.network, r.library, r.attack, images, f"{left:.2f}"])


def _figure(path: Path, curves: Sequence[Any], entries: Sequence[Any]) -> None:
    names = [e.name for e in entries if any(r.network == e.name for r in curves)]
    rows = -(-len(names) // ACROSS)
    figure, axes = pyplot.subplots(rows, ACROSS, figsize=(4.2 * ACROSS, 3.2 * rows), squeeze=False)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    for axis, name in zip(axes.flat, names, strict=False):
        for r in curves:
            if r.network == name:
                images = [g for g in GRID if g <= r.budget]
                left = [100 * float((r.broken_at > g).double().mean()) for g in images]
                width = 2.2 if r.library == OURS else 1.0
                axis.step(images, left, where="post", label=f"{r.library} {r.attack}", linewidth=width)
        axis.set_xscale("log")
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("images for an example", fontsize=8)
        axis.legend(fontsize=6)
        axis.tick_params(labelsize=7)
    for axis in axes[:, 0]:
        axis.set_ylabel("accuracy left (%)", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
