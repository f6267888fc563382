"""The worst cells of the tables of error rates, as docs/numbers.md shows them.

    python benchmarks/errors/error_rates.py            prints them
    python benchmarks/errors/error_rates.py --write    and puts them into docs/numbers.md

Nothing is simulated: the tables of benchmarks/errors/intervals.md are read.
"""

import argparse
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.errors.coverage import BEYOND, TABLES, write
from benchmarks.errors.coverage_random_populations import BATCHES_OF_ALL, KINDS_OF_BATCHES

NUMBERS = TABLES.parents[2] / "docs" / "numbers.md"

Line = Sequence[tuple[str, str]]  # a line of a table: the name and the text of each column


@dataclass(frozen=True)
class Part:
    """Lines of a table.

    Attributes:
        ends: what the names of its columns with errors match, behind ``lower end`` and ``upper end``.
        of: which lines, by their columns; all of them unless given.
    """

    table: str
    ends: str = "{} errs$"
    of: Callable[[dict[str, str]], bool] = lambda line: True


def from_batches(line: dict[str, str]) -> bool:
    """Whether an interval of `coverage.py` is from disjoint batches, within what it assumes."""
    return "batch" in line["unit"] and line["unit"] != BEYOND


def within(line: dict[str, str], *, two: bool) -> bool:
    """The same of `coverage_random_batches.py`, from two disjoint batches or from more."""
    kept = line["beyond the assumption of"] != KINDS_OF_BATCHES
    return kept and (line["disjoint batches"] == "2") == two


def beyond(assumption: str, broken: bool) -> Callable[[dict[str, str]], bool]:
    """Whether a population of `coverage_random_batches.py` breaks an assumption on other images."""
    return lambda line: (line["beyond the assumption of"] == assumption) == broken


ROWS = {
    "These images: accuracy and gain, after 150, 200 and 600 random batches": [
        Part("these-images", "{} errs after")
    ],
    "These images: the same, bets over batches alone, at any look": [Part("these-images", "{} ever errs")],
    "These images: single victims, at any look": [Part("victims", "{} ever errs")],
    "These images: 16, 32 or 64 victims": [Part("own-batches")],
    "These images: an ensemble of two attacks, at any look": [Part("ensembles", "{} ever errs")],
    "These inputs in these batches: over draws": [Part("over-draws")],
    "Other images: answered one by one": [
        Part("coverage", of=lambda line: line["unit"].startswith("example"))
    ],
    "Other images: answered one by one, one draw, at any look": [
        Part("anytime-answers", "{} ever errs", lambda line: "mixture" in line["interval"])
    ],
    "Other images: 5 disjoint batches or more": [
        Part("coverage", of=from_batches),
        Part("other-images", "disjoint: {} errs", partial(within, two=False)),
    ],
    "**Other images: 2 disjoint batches**": [
        Part("other-images", "disjoint: {} errs", partial(within, two=True))
    ],
    "Other images: 5 disjoint batches or more, differences": [Part("differences")],
    "Other images: disjoint batches, at every look of 2, 4, 8, 16 and 40": [
        Part("anytime-batches", "{} ever errs"),
        Part("anytime-differences", "{} ever errs"),
    ],
    "**Other images: disjoint batches, a kind of batch too rare to be seen**": [
        Part("coverage", of=lambda line: line["unit"] == BEYOND),
        Part("other-images", "disjoint: {} errs", beyond(KINDS_OF_BATCHES, True)),
    ],
    "Other images: the interval on these images": [
        Part("other-images", "random: {} errs", beyond(BATCHES_OF_ALL, False))
    ],
    "**Other images: the interval on these, where few images or a sum decide whole batches**": [
        Part("other-images", "random: {} errs", beyond(BATCHES_OF_ALL, True))
    ],
}


def lines_of(table: str, page: Path = TABLES) -> list[Line]:
    """The lines of a table of the page."""
    text = page.read_text(encoding="utf-8").split(f"<!-- {table}: begin -->")[1]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.split(f"<!-- {table}: end -->")[0].splitlines()
        if line.startswith("|")
    ]
    return [list(zip(rows[0], row, strict=True)) for row in rows[2:]]


def errors_of(parts: Sequence[Part], end: str) -> list[float]:
    """Every figure of one kind of end, in percent."""
    return [
        float(figure)
        for part in parts
        for line in lines_of(part.table)
        if part.of(dict(line))
        for name, text in line
        if re.search(part.ends.format(end), name)
        for figure in re.findall(r"[\d.]+", text)
    ]


def table() -> Iterator[str]:
    """Markdown, one line a statement."""
    yield "| statement | figures | lower end errs, at most | upper end errs, at most |"
    yield "| --- | ---: | ---: | ---: |"
    for name, parts in ROWS.items():
        lower, upper = (errors_of(parts, end) for end in ("lower end", "upper end"))
        worst = " | ".join(f"{max(errors):.1f}%" if errors else "" for errors in (lower, upper))
        yield f"| {name} | {len(lower) + len(upper)} | {worst} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="put them into docs/numbers.md")
    given = parser.parse_args()
    text = "\n".join(table())
    print(text)
    if given.write:
        write("error-rates", text, NUMBERS)


if __name__ == "__main__":
    main()
