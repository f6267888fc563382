"""Our attacks beside those of other libraries, each given the same number of images for an example.

    python benchmarks/peers/league.py [--shared ../shared] [--budgets 100,1000,10000] [--only NAME ...]

Writes reports/league: report.md, league.csv, curves.csv and curves.png. Libraries that are not installed are
left out, and the report names them; `benchmarks/peers/league.sh` installs all in an environment of their
own. With
--runs results are kept, and the same command goes on with what is missing: a folder for each version of the
attacks.
"""

import argparse
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.peers import league_report
from benchmarks.peers.league_attacks import Run, installed, missing, quietly
from benchmarks.peers.league_counter import Counted
from benchmarks.peers.league_networks import CIFAR10, ENTRIES, EXAMPLES, ROOT, SHARED, Entry, Sources, Subject
from benchmarks.peers.league_random import CountedDefence
from benchmarks.smoke import smoke
from robustbench_coded.models.pixel_model import PixelModel

OUT = ROOT / "reports" / "league"
SUITES = {("csrobust", "aa"), ("pyautoattack", "standard"), ("pyautoattack", "rand")}
FINALISTS = 2  # attacks of a library that are given more than the first budget


@dataclass(frozen=True)
class Result:
    """Attributes:
    broken_at: images that it took to break each example [n]; ``league_counter.NEVER`` where it stands, and
        everywhere for random defences.
    right: of random defences, the share of right answers under each fresh draw [draws], the same for all.
    truth: percent that the best attack leaves there, between two bounds, if known.
    images: mean over the examples.
    seconds: of CPU time, single-threaded.
    note: what the library raised, if anything.
    """

    network: str
    library: str
    attack: str
    budget: int
    broken_at: Tensor
    images: float
    seconds: float
    note: str = ""
    right: Tensor | None = None
    truth: tuple[float, float] | None = None

    @property
    def left(self) -> float:
        """Percent of the examples, or of the answers of a random defence."""
        if self.right is not None:
            return 100 * float(self.right.double().mean())
        return 100 * float((self.broken_at > self.budget).double().mean())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, default=SHARED, help="Folder of checkpoints, and of MNIST.")
    parser.add_argument("--data-dir", type=Path, default=CIFAR10, help="Folder of CIFAR-10.")
    parser.add_argument("--examples", type=int, default=EXAMPLES)
    parser.add_argument("--budgets", default="100,1000,10000", help="Images for an example.")
    parser.add_argument("--only", nargs="*", help="Networks to attack; what is kept of others is reported.")
    parser.add_argument("--runs", type=Path, help="Folder of what has been measured.")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of other libraries
    budgets = [int(part) for part in options.budgets.split(",")]
    sources = Sources(options.shared, options.data_dir, options.examples)
    left_out = [entry.name for entry in ENTRIES if entry.missing(sources)]
    files = sorted(options.runs.glob("*.pt")) if options.runs else []
    results = [kept for file in files if (kept := _kept(file, options.examples))]
    for budget in budgets:
        for entry in ENTRIES:
            wanted = not options.only or entry.name in options.only
            if entry.name in left_out or not wanted or budget > entry.largest:
                continue
            subject = entry.load(sources)
            done = {(r.network, r.library, r.attack, r.budget) for r in results}
            for library, name, run in finalists(entry, subject.classes, results, budget, budgets[0]):
                if (entry.name, library, name, budget) in done:
                    continue
                result = measured(entry, library, name, run, subject, budget)
                results.append(result)
                if options.runs:
                    _keep(options.runs, result)
                said = f"{result.left:.1f} left, {result.seconds:.1f} s"
                print(f"{entry.name} {budget} {library} {name}: {said}", flush=True)
        league_report.write(options.out, _in_order(results), options.examples, ENTRIES, missing(), left_out)


def _keep(runs: Path, result: Result) -> None:
    runs.mkdir(parents=True, exist_ok=True)
    name = f"{result.network}-{result.budget}-{result.library}-{result.attack}.pt"
    torch.save(asdict(result), runs / name)


def _kept(file: Path, examples: int) -> Result | None:
    """What was measured before; None where it was on another number of examples."""
    result = Result(**torch.load(file))
    most = {entry.name: entry.most for entry in ENTRIES}.get(result.network)
    return result if len(result.broken_at) == (most or examples) else None


def _in_order(results: list[Result]) -> list[Result]:
    """As the networks and the attacks are listed; a budget on a network once every library has spent it."""
    networks = [entry.name for entry in ENTRIES]
    attacks = [(library, attack) for library, attack, _ in installed(on_random=True, classes=10)]
    known = [r for r in results if r.network in networks and (r.library, r.attack) in attacks]
    spent = {(r.network, r.budget, r.library) for r in known}
    libraries = {library for library, _ in attacks}
    known = [r for r in known if all((r.network, r.budget, library) in spent for library in libraries)]
    return sorted(
        known, key=lambda r: (r.budget, networks.index(r.network), attacks.index((r.library, r.attack)))
    )


def finalists(
    entry: Entry, classes: int, results: list[Result], budget: int, first: int
) -> list[tuple[str, str, Run]]:
    """All attacks at the first budget; then suites, and each library's FINALISTS that left least there."""
    attacks = list(installed(bool(entry.draws), classes))
    if budget == first:
        return attacks
    before = [r for r in _in_order(results) if r.network == entry.name and r.budget == first]
    chosen = set(SUITES)
    for library in {library for library, _, _ in attacks}:
        of = [r for r in before if r.library == library]
        chosen |= {(library, r.attack) for r in sorted(of, key=lambda r: r.left)[:FINALISTS]}
    return [(library, name, run) for library, name, run in attacks if (library, name) in chosen]


def measured(entry: Entry, library: str, name: str, run: Run, subject: Subject, budget: int) -> Result:
    x, y, network = subject.x, subject.y, subject.network
    counted: Counted | CountedDefence
    if isinstance(network, PixelModel):
        counted = Counted(network, x, y, entry.eps, budget)
    else:
        counted = CountedDefence(network, x, y, entry.eps, budget)
    returned, note = None, ""
    begun = time.process_time()
    try:
        with quietly():
            returned = run(counted, x.clone(), y.clone(), entry.eps, budget)
    except Exception as error:  # a library may fail on a network; what it found until then counts
        if not counted.spent:
            note = f"{type(error).__name__}: {error}".replace("\n", " ")[:120]
    seconds = time.process_time() - begun
    images, right = float(counted.cost.double().mean()), None
    if isinstance(counted, CountedDefence):
        right = counted.right(counted.ended_with(returned), entry.draws).double().mean(1)
    at = counted.broken_at
    return Result(entry.name, library, name, budget, at, images, seconds, note, right, subject.truth)


if __name__ == "__main__":
    smoke("--only digits-erm --budgets 20 --examples 8 --out FOLDER")
    main()
