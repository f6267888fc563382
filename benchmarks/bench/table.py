"""A benchmark report as tables in Markdown."""

from collections.abc import Sequence

from benchmarks.bench.run import BenchReport, BenchSection
from benchmarks.bench.timing import TimingSpread


def pipes(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head."""
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|" + " --- |" * len(rows[0]), *body])


def cells(section: BenchSection) -> list[tuple[str, ...]]:
    """Head and rows: medians over the rounds, quartiles in brackets; costs per image of another row."""
    numbers = {timing.name: str(i) for i, timing in enumerate(section.timings, 1)}
    rows: list[tuple[str, ...]] = [("", section.title, "us/image", "cost", "peak MB")]
    for timing in section.timings:
        cost, memory = timing.cost, section.memory.get(timing.name)
        against = "" if cost is None else f"{_spread(cost, 1, 3)} of {numbers[timing.against or timing.name]}"
        megabytes = "" if memory is None else f"{memory / 2**20:.0f}"
        time = _spread(timing.per_image, 1e6, 0)
        rows.append((numbers[timing.name], timing.name, time, against, megabytes))
    return rows


def preparation(report: BenchReport) -> list[str]:
    """How long each way of differentiating the model took to prepare, a line each."""
    return [
        f"{name}: prepared in {seconds:.1f} s; {comparison}"
        for name, (seconds, comparison) in report.preparation.items()
    ]


def _spread(spread: TimingSpread, scale: float, digits: int) -> str:
    median, low, high = (f"{scale * value:.{digits}f}" for value in (spread.median, spread.low, spread.high))
    return f"{median} [{low}, {high}]"
