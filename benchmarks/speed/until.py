"""Images until the verdict falls: `--until settled` beside the fixed design, over entries of the zoo.

    python benchmarks/speed/until.py                  writes benchmarks/speed/until.md and until.png
    python benchmarks/speed/until.py rounding edge    prints the table of these alone

Counted are images through the network, forward and backward, of all units of a run: controls, attacks,
scoring and submitted inputs, on the entry and on its base model. With `--until` they are counted when the
entry's word under `batch/unknown` is final, and at the end of the run where it never is.
"""

import functools
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.bench.table import pipes
from benchmarks.errors.zoo_entries import entries_parser, measured_entries
from benchmarks.smoke import smoke
from robustbench_coded.runs.atomic import write_text

OUT = Path(__file__).parent
THREAT = "batch/unknown"
EXAMPLES = 256  # of each entry: two rounds; more would save more
# Of every family but the coupled ones, which need many batches: some that a core evaluates in seconds.
ENTRIES = (
    "rounding", "misleading-gradient", "shattered", "nan-gradient", "lifted", "saturated-wide", "saturated",
    "noise-narrow", "random-slope", "coin-flip", "leak-above-16", "constant", "lipschitz", "lipschitz-narrow",
    "smoothing-thin", "abstain-always", "edge-only", "off-grid", "op-sign", "op-clamp", "op-bernoulli",
    "op-sign-wide", "one-hot-0.3",
)  # fmt: skip

ABOUT = """\
# Images until the verdict falls

`csrobust eval --until settled` beside the same command without it, over {entries} entries of the zoo,
{examples} examples each, with default settings (`python benchmarks/speed/until.py`). Counted are images
through the
network, forward and backward, of all units, up to the moment at which the word under `batch/unknown` is
final; where it never is, of the whole run.

Fixed design over `--until settled`, median of all entries: **{over_all}**; of the {stopped} whose word became
final: **{over_stopped}**. Words agree, or the fixed design's is `not settled`, on {agree} of {entries}; on
{wider} `--until` alone says `not settled`, as its intervals hold at all looks; on {others} they differ
otherwise. `no failure found` is never final before every attack and every check has run, so robust entries
save nothing.

![Images used by both designs](until.png)
"""


@dataclass(frozen=True)
class Measured:
    """One entry, evaluated both ways.

    Attributes:
        fixed, until: images through the network.
        fixed_word, until_word: the words under ``batch/unknown``.
        stopped: examples met when the word became final; None where it never was.
        seconds: of both evaluations, on one core.
    """

    name: str
    fixed: int
    fixed_word: str
    until: int
    until_word: str
    stopped: int | None
    seconds: float

    @property
    def ratio(self) -> float:
        return self.fixed / self.until

    @property
    def agree(self) -> bool:
        """The same word, or one where the fixed design has none."""
        return self.fixed_word in (self.until_word, "not settled")


def measure(name: str) -> Measured:
    """Evaluates an entry both ways with default settings."""
    from benchmarks.errors.zoo_judged import evaluate_entry
    from robustbench_coded.evaluation.session.evaluate import IncompleteRun
    from robustbench_coded.evaluation.session.listener import Listener, Stop
    from robustbench_coded.judge.run import load_manifest, load_run
    from robustbench_coded.runs.folder import read_run
    from robustbench_coded.schema.words import VerdictName

    def images(path: Path) -> int:
        units = read_run(path, load_manifest(path).unit_ids)[1].values()
        return int(sum(unit.get("forwards", 0) + unit.get("backwards", 0) for unit in units))

    class AtTheVerdict(Listener):
        images: int | None = None
        examples: int | None = None

        def opened(self, path: Path) -> None:
            self.path = path

        def settled(self, stop: Stop) -> None:
            if stop.case.subject.defence == name and str(stop.case.threat) == THREAT:
                self.images, self.examples = images(self.path), stop.examples

    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for until in (None, "settled"):
            listener, path = AtTheVerdict(), Path(folder) / str(until)
            try:
                evaluate_entry(name, path, n=EXAMPLES, threads=1, until=until, listener=listener)
            except IncompleteRun as incomplete:
                path = incomplete.path
            run = load_run(path)
            words = [
                judgement.verdict.name
                for judgement in run.judgements
                if judgement.case.subject.defence == name and str(judgement.threat) == THREAT
            ]
            found.append((listener.images or images(path), words[0] if words else VerdictName.NOT_SETTLED))
    (fixed, fixed_word), (used, word) = found
    stopped = listener.examples
    found_here = Measured(name, fixed, fixed_word, used, word, stopped, time.process_time() - started)
    print(found_here, flush=True)
    return found_here


def report(measured: Sequence[Measured]) -> str:
    """Markdown: the entries by how much is saved, and what it comes to."""
    rows = sorted(measured, key=lambda one: -one.ratio)
    stopped = [one for one in rows if one.stopped is not None]
    agree = sum(one.agree for one in rows)
    cells = [("entry", "fixed: images", "word", "until settled: images", "word", "final after", "ratio")]
    cells += [
        (
            one.name,
            f"{one.fixed:,}",
            one.fixed_word,
            f"{one.until:,}",
            one.until_word,
            "" if one.stopped is None else f"{one.stopped} examples",
            f"{one.ratio:.1f}",
        )
        for one in rows
    ]
    over_all, over_stopped = (
        f"{median(one.ratio for one in part):.1f}" if part else "none" for part in (rows, stopped)
    )
    apart = [one for one in rows if not one.agree]
    wider = sum(one.until_word == "not settled" for one in apart)
    told = ABOUT.format(
        wider=wider,
        others=len(apart) - wider,
        entries=len(rows),
        examples=EXAMPLES,
        over_all=over_all,
        stopped=len(stopped),
        over_stopped=over_stopped,
        agree=agree,
    )
    return f"{told}\n{pipes(cells)}\n"


def figure(measured: Sequence[Measured], path: Path) -> None:
    """Images of both designs, an entry a line, on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = sorted(measured, key=lambda one: one.ratio)
    places = range(len(rows))
    chart, axes = pyplot.subplots(figsize=(7, 0.24 * len(rows) + 1.2), layout="constrained")
    axes.hlines(
        places,
        [one.until for one in rows],
        [one.fixed for one in rows],
        color="#b0b0b0",
        linewidth=1,
        zorder=1,
    )
    axes.scatter([one.fixed for one in rows], places, label="fixed design", color="#7a7a7a", s=20)
    axes.scatter([one.until for one in rows], places, label="--until settled", color="#1f6fb4", s=20)
    axes.set_yticks(list(places), [one.name for one in rows], fontsize=8)
    axes.set_xscale("log")
    axes.set_xlabel("images through the network, forward and backward")
    axes.legend(loc="lower left", frameon=False, fontsize=8)
    chart.savefig(path, dpi=110)


def main() -> None:
    options = (parser := entries_parser(__doc__ or "")).parse_args()
    measured = measured_entries(functools.partial(measure), options, parser, ENTRIES)
    if options.names:
        print(report(measured))
        return
    write_text(OUT / "until.md", report(measured))
    figure(measured, OUT / "until.png")


if __name__ == "__main__":
    smoke("rounding")
    main()
