"""The rows of the benchmark and their page: losses first, then counts by tool and kind, then every instance."""

import csv
import io
import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields

from benchmarks.soundness.instances import Instance
from benchmarks.soundness.tools import Account
from robustbench_coded.judge.intervals import clopper_pearson

BROKEN = 0.05  # robust accuracy up to which an account calls a defence broken
OURS = "csrobust"
WORDS = {"broken": "broken", "no gain": "broken", "no failure found": "robust", "not settled": "open"}
TAIL = 0.025


@dataclass(frozen=True)
class Row:
    """One tool on one instance.

    Attributes:
        accuracy, low, high: robust accuracy that it reports, and the 95% interval (exact binomial for other tools).
        verdict: csrobust's word; others' follows from their accuracy. strongest: csrobust's strongest attack.
        gradients: evaluations for each image. seconds: of one processor.
    """

    instance: str
    tool: str
    truth: float
    accuracy: float
    low: float
    high: float
    verdict: str
    strongest: str
    gradients: float
    seconds: float

    @classmethod
    def of(cls, instance: Instance, tool: str, found: Account) -> "Row":
        """The row of another tool."""
        low, high = clopper_pearson(found.standing, found.examples, TAIL)
        accuracy = found.standing / found.examples
        word = "broken" if accuracy <= BROKEN else "no failure found"
        return cls(
            instance.name, tool, instance.truth, accuracy, low, high, word, "", found.gradients, found.seconds
        )

    @property
    def distance(self) -> float:
        """From the truth, in robust accuracy."""
        return abs(self.accuracy - self.truth)

    @property
    def missed(self) -> bool:
        """True if the defence is broken and the tool does not say so; an open verdict of csrobust is counted apart."""
        return self.truth <= BROKEN and WORDS[self.verdict] == "robust"

    @property
    def open(self) -> bool:
        return WORDS[self.verdict] == "open"

    @property
    def false(self) -> bool:
        """True if the tool counts breaks that are none: its interval ends below the truth, or its word is against it."""
        return self.high < self.truth or (self.truth > BROKEN and WORDS[self.verdict] == "broken")


def rows_of(text: str) -> list[Row]:
    """The rows of a file of FOLDER."""
    return [Row(**row) for row in json.loads(text)]


def table(rows: Sequence[Row]) -> str:
    """soundness.csv."""
    out = io.StringIO()
    writer = csv.DictWriter(out, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(row).items()})
    return out.getvalue()


def count(hits: Sequence[bool]) -> str:
    """`3 of 10 (6.7 to 65.2%)`: a count with the exact binomial 95% interval of its share."""
    if not hits:
        return "none"
    low, high = clopper_pearson(sum(hits), len(hits), TAIL)
    return f"{sum(hits)} of {len(hits)} ({100 * low:.1f} to {100 * high:.1f}%)"


def losses(rows: Sequence[Row]) -> Iterator[str]:
    """Lines on instances where csrobust errs, stays open or another tool's account is nearer to the truth."""
    for own in (row for row in rows if row.tool == OURS):
        others = [row for row in rows if row.instance == own.instance and row.tool != OURS]
        best = min(others, key=lambda row: row.distance, default=own)
        faults = [word for word, holds in (("missed break", own.missed), ("false break", own.false), ("open", own.open)) if holds]  # fmt: skip
        if best.distance < own.distance - 0.005:
            faults.append(f"{best.tool} is nearer, at {best.accuracy:.1%}")
        if faults:
            reported = f"{own.accuracy:.1%} (95% CI {100 * own.low:.1f} to {100 * own.high:.1f})"
            yield f"- `{own.instance}`, truth {own.truth:.1%}: {'; '.join(faults)}. csrobust reports {reported}, `{own.verdict}`."


def page(rows: Sequence[Row], seed: int, missing: Sequence[str]) -> str:
    """report.md."""
    return "\n".join(_lines(rows, seed, missing)) + "\n"


def _lines(rows: Sequence[Row], seed: int, missing: Sequence[str]) -> Iterator[str]:
    instances = list(dict.fromkeys(row.instance for row in rows))
    tools = list(dict.fromkeys(row.tool for row in rows))
    yield "# Attack tools on defences of known truth"
    yield ""
    yield f"{len(instances)} defences that `python -m benchmarks.soundness` generated with seed {seed}, drawn after the generator was"
    yield "committed. Their robust accuracy follows from a proof (`benchmarks/soundness/networks.py`), not from an attack. Networks are"
    yield "small (8 x 8 digits, 64 images), so the counts say nothing about networks that other people train."
    if missing:
        yield f"Not installed, so not run: {', '.join(missing)}."
    yield ""
    yield "## Where csrobust loses"
    yield ""
    yield from list(losses(rows)) or ["Nowhere on these instances."]
    yield ""
    yield "## By tool"
    yield ""
    yield "A break is missed if robust accuracy is 0% and the tool reports more than 5% (csrobust: `no failure found`; open verdicts are"
    yield "counted apart). A break is false if the tool's 95% interval ends below the truth. Seconds are of one processor that"
    yield "other programs used, too. Percentages with exact 95% intervals; instances share three base models."
    yield ""
    yield "| tool | missed breaks | open | false breaks | mean distance from the truth, points | gradient evaluations per image, median | seconds |"
    yield "| --- | --- | ---: | --- | ---: | ---: | ---: |"
    for tool in tools:
        own = [row for row in rows if row.tool == tool]
        broken, robust = ([r for r in own if (r.truth <= BROKEN) == side] for side in (True, False))
        distance = 100 * statistics.mean(row.distance for row in own)
        spent = statistics.median(row.gradients for row in own)
        cells = (tool, count([r.missed for r in broken]), sum(r.open for r in own), count([r.false for r in robust]))
        yield f"| {' | '.join(map(str, cells))} | {distance:.1f} | {spent:,.0f} | {sum(r.seconds for r in own):,.0f} |"
    yield ""
    yield "## By kind"
    yield ""
    yield "Mean robust accuracy in percent that each tool reports. `m` is the number of pixels that decide whether a counterexample is"
    yield "reached. The larger it is, the rarer are starts that lead there."
    yield ""
    kinds = list(dict.fromkeys(name.partition("-")[2] for name in instances))
    yield f"| counterexamples | truth | {' | '.join(tools)} |"
    yield f"| --- | ---: |{' ---: |' * len(tools)}"
    for kind in kinds:
        for truth in sorted({row.truth for row in rows if row.instance.partition("-")[2] == kind}):
            own = [row for row in rows if row.instance.partition("-")[2] == kind and row.truth == truth]
            means = ([row.accuracy for row in own if row.tool == tool] for tool in tools)
            cells = " | ".join(f"{100 * statistics.mean(mean):.1f}" if mean else "" for mean in means)
            yield f"| {kind} ({len({row.instance for row in own})}) | {100 * truth:.1f} | {cells} |"
    yield ""
    yield "## Every instance"
    yield ""
    yield f"| defence | truth | {' | '.join(tools)} | verdict of csrobust | its strongest attack |"
    yield f"| --- | ---: |{' ---: |' * len(tools)} --- | --- |"
    for name in instances:
        found = {row.tool: row for row in rows if row.instance == name}
        ours = found[OURS]
        cells = " | ".join(f"{100 * found[tool].accuracy:.1f}" if tool in found else "" for tool in tools)
        yield f"| {name} | {100 * ours.truth:.1f} | {cells} | {ours.verdict} | `{ours.strongest}` |"
