"""How often each end of an interval errs, by formula and population.

    python -m benchmarks.errors.coverage            prints the tables (about 2 minutes on one core)
    python -m benchmarks.errors.coverage --write    and puts them into benchmarks/errors/intervals.md, and the
                                                    worst cells into docs/numbers.md
    python -m benchmarks.errors.coverage --smoke    the same in seconds, with 500 evaluations a cell

A cell is 10,000 evaluations of one population, whose true accuracy is known. All of them are computed at
once; the first of each cell also ask the package, which must answer with the same ends. Of random batches the
bets over batches alone are counted, at any number of batches: the interval is the wider of these and of the
bets over images, so it errs at most as often.
"""

import argparse
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtri, stdtrit
from scipy.stats import binom

from robustbench_coded.evaluation.planning.comparisons import looks
from robustbench_coded.judge.anytime import CAPITAL, SHARES
from robustbench_coded.judge.intervals import TAIL, accuracy_interval
from robustbench_coded.judge.paired import independent_difference

TABLES = Path(__file__).with_name("intervals.md")
NUMBERS = TABLES.parents[2] / "docs" / "numbers.md"
SIMULATIONS, SMOKE, ASKED, SEED = 10_000, 500, 3, 0
IMAGES, ODD = (64, 256, 640), (0.005, 0.01, 0.02)
K, MOST_BATCHES = 64, 600
Floats = NDArray[np.float64]
Ends = tuple[Floats, Floats]


@dataclass(frozen=True)
class Cell:
    """One population at one size, and how often either end errs, as fractions; ``width``: mean, a fraction.

    Attributes:
        beyond: the assumption that the population breaks; '' where it keeps all of them.
    """

    formula: str
    population: str
    n: int
    lower: float
    upper: float
    width: float
    beyond: str = ""


def exact(right: Floats, worth: Floats | float, tail: float) -> Ends:
    """Clopper and Pearson's ends of ``right`` of ``worth`` answers, for many evaluations at once."""
    right, worth = np.broadcast_arrays(np.asarray(right, float), np.asarray(worth, float))
    wrong = worth - right
    low = np.where(right > 0, betaincinv(np.maximum(right, 1e-9), wrong + 1, tail), 0.0)
    high = np.where(wrong > 0, betaincinv(right + 1, np.maximum(wrong, 1e-9), 1 - tail), 1.0)
    return low, high


def worth_of(correct: NDArray[np.bool_], batches: int, tail: float) -> tuple[Floats, Floats]:
    """`intervals.answers_worth` of [evaluations, images, draws] in equal batches that share draws, and
    `intervals.shared_variance`.
    """
    count, images, draws = correct.shape
    if draws == 1:
        return np.full(count, float(images)), np.zeros(count)
    size, estimate = images // batches, correct.mean(axis=(1, 2))
    grouped = correct.reshape(count, batches, size, draws)
    of_means = grouped.mean(axis=2).var(axis=2, ddof=1)
    of_answers = correct.var(axis=2, ddof=1).reshape(count, batches, size).mean(axis=2)
    shared = ((size * of_means - of_answers) / (size - 1)).sum(axis=1) / batches**2 / draws
    shared = np.maximum(shared, 0)
    of_images = correct.mean(axis=2).var(axis=1, ddof=1) / images
    total, binomial = of_images + shared, estimate * (1 - estimate)
    with np.errstate(divide="ignore", invalid="ignore"):
        degrees = total**2 / (of_images**2 / (images - 1) + shared**2 / (batches * (draws - 1)))
        factor = (stdtrit(np.maximum(degrees, 1), 1 - tail) / -ndtri(tail)) ** 2
        worth = np.clip(binomial / (total * factor), min(images, batches * draws), images)
    return np.where((shared > 0) & (binomial > 0), worth, float(images)), shared


def one_by_one(correct: NDArray[np.bool_], batches: int, tail: float = TAIL) -> Ends:
    """The ends for [evaluations, images, draws]."""
    worth, _ = worth_of(correct, batches, tail)
    ends = exact(correct.mean(axis=(1, 2)) * worth, worth, tail)
    batch = np.arange(correct.shape[1]) * batches // correct.shape[1]
    for i in range(ASKED):
        asked = accuracy_interval(correct[i], batch, batch_dependent=False, randomised=False, tail=tail)
        assert np.allclose((asked.low, asked.high), (ends[0][i], ends[1][i]))
    return ends


def gain(left: NDArray[np.bool_], right: NDArray[np.bool_], batches: int, tail: float = TAIL) -> Ends:
    """The ends for the accuracy of ``left`` less that of ``right``, [evaluations, images, draws] each."""
    left, right = np.broadcast_arrays(left, right)
    parts = (left & ~right, right & ~left)
    alone = []
    for part in parts:
        share, (worth, shared) = part.mean(axis=(1, 2)), worth_of(part, batches, tail)
        tied = np.minimum(shared * worth / np.maximum(share * (1 - share), 1e-12), 1)
        alone.append((share, *exact(share * worth, worth, tail), worth / left.shape[1], tied))
    both = (parts[0].mean(axis=2) * parts[1].mean(axis=2)).mean(axis=1)
    below, above = _reach(alone[0], alone[1], both), _reach(alone[1], alone[0], both)
    estimate = left.mean(axis=(1, 2)) - right.mean(axis=(1, 2))
    ends = np.maximum(estimate - below, -1), np.minimum(estimate + above, 1)
    batch = np.arange(left.shape[1]) * batches // left.shape[1]
    for i in range(ASKED):
        asked = independent_difference(left[i], right[i], batch, tail)
        assert np.allclose(asked, (ends[0][i], ends[1][i]))
    return ends


def _reach(first: Sequence[Floats], other: Sequence[Floats], both: Floats) -> Floats:
    """`paired._reach` of many evaluations at once."""
    (share, low, _, worth, tied), (other_share, _, high, other_worth, other_tied) = first, other
    down, up = share - low, high - other_share
    scale = np.maximum(np.sqrt(share * (1 - share) * high * (1 - high)), 1e-12)
    of_images = np.clip((both - share * high) / scale, -1, 1) * np.sqrt(worth * other_worth)
    r = np.maximum(of_images - np.sqrt(tied * other_tied), -1)
    return np.sqrt(np.maximum(down**2 + up**2 - 2 * r * down * up, 0))


def errs(ends: Ends, truth: Floats | float) -> tuple[float, float, float]:
    """How often each end errs, and the mean width."""
    low, high = ends
    return float((low > truth).mean()), float((high < truth).mean()), float((high - low).mean())


def ever(values: Floats, truth: Floats, most: float) -> float:
    """How often what is bet against the truth ever grows to 1 / TAIL; values [evaluations, batches]."""
    room = np.maximum(most - truth, 1e-12)[:, None]
    gained = (truth[:, None] - values) / room
    grown = np.zeros(values.shape)
    with np.errstate(divide="ignore"):
        for share, part in zip(SHARES, CAPITAL, strict=True):
            grown += part * np.exp(np.minimum(np.log1p(np.maximum(share * gained, -1)).cumsum(axis=1), 500))
    return float((grown >= 1 / TAIL).any(axis=1).mean())


def means_of(rng: np.random.Generator, count: int, n: int, share: float, odd: float, usual: float) -> Floats:
    """[count, n], the probability of each image to be right: an odd image has ``odd``, others ``usual``."""
    return np.where(rng.random((count, n)) < share, odd, usual)


def deterministic_cells(rng: np.random.Generator, count: int) -> Iterator[Cell]:
    """One answer to each image, at a single size and at planned looks."""
    for n, share in itertools.product(IMAGES, (*ODD, 0.1, 0.3, 0.5, 0.9, 0.98)):
        correct = rng.random((count, n, 1)) < share
        yield Cell("one answer each", f"{share:.1%} right", n, *errs(one_by_one(correct, 1), share))
    sizes = (256, 512, 1024, 2048)
    for planned, share in itertools.product((sizes[:2], sizes), (0.01, 0.05, 0.3, 0.5, 0.9)):
        right = rng.random((count, planned[-1])) < share
        wrong = np.zeros((2, count), bool)
        for size in planned:
            ends = exact(right[:, :size].sum(axis=1), size, TAIL / looks(planned, size))
            wrong |= np.stack([ends[0] > share, ends[1] < share])
        lower, upper = wrong.mean(axis=1)
        width = float((ends[1] - ends[0]).mean())
        name = f"{share:.1%} right, {len(planned)} looks"
        yield Cell("one answer each, at any planned look", name, planned[-1], lower, upper, width)


ODD_AND_USUAL = ((0.0, 0.9), (1.0, 0.1), (0.0, 0.5), (1.0, 0.0), (0.0, 1.0), (0.5, 0.02))


def random_cells(rng: np.random.Generator, count: int) -> Iterator[Cell]:
    """Several draws for each image, of its own, or shared by a batch."""
    for n, draws, share in itertools.product(IMAGES, (10, 50), ODD):
        for odd, usual in ODD_AND_USUAL:
            p = means_of(rng, count, n, share, odd, usual)
            mean = rng.binomial(draws, p) / draws
            truth = share * odd + (1 - share) * usual
            found = errs(exact(mean.sum(axis=1), n, TAIL), truth)
            name = f"{draws} draws; {share:.1%} of images right in {odd:.0%}, others in {usual:.0%}"
            yield Cell("draws of each image", name, n, *found)
    for n, batches in itertools.product(IMAGES, (2, 5, 20)):
        for first, second, often, beyond in (
            (0.9, 0.3, 0.5, ""),
            (0.6, 0.4, 0.5, ""),
            (1.0, 0.0, 0.1, "one odd draw of ten, too rare to be seen"),
        ):
            size = n // batches
            kind = rng.random((count, batches, 1, 10)) < often
            correct = rng.random((count, batches, size, 1)) < np.where(kind, first, second)
            correct = correct.reshape(count, batches * size, 10)
            truth = often * first + (1 - often) * second
            name = f"{batches} batches; a draw has {first:.0%} right with {often:.0%}, else {second:.0%}"
            found = errs(one_by_one(correct, batches), truth)
            yield Cell("draws that a batch shares", name, batches * size, *found, beyond)


def gain_cells(rng: np.random.Generator, count: int) -> Iterator[Cell]:
    """Gains of answers given one by one: both deterministic, or the left one random."""
    few = ((0, 0.005), (0, 0.01), (0, 0.02), (0.01, 0.02), (0.02, 0.05), (0.1, 0.05), (0.3, 0.01))
    for n, (alone, other) in itertools.product(IMAGES, (*few, (0.9, 0.05), (0.95, 0.05), (0.98, 0.02))):
        u = rng.random((count, n, 1))
        same = (u > alone) & (u < alone + 0.6 * (1 - alone - other))
        left, right = (u < alone) | same, same | (u > 1 - other)
        name = f"{alone:.1%} right on the left alone, {other:.1%} on the right"
        yield Cell("gains, one answer each", name, n, *errs(gain(left, right, 1), alone - other))
    for n, share, (odd, usual) in itertools.product(IMAGES, ODD, ODD_AND_USUAL[:4]):
        odds = rng.random((count, n, 1)) < share
        left = rng.random((count, n, 10)) < np.where(odds, odd, usual)
        right = rng.random((count, n, 1)) < 0.3
        truth = share * odd + (1 - share) * usual - 0.3
        name = f"10 draws; {share:.1%} of images right in {odd:.0%}, others in {usual:.0%}; base 30%"
        yield Cell("gains, draws of each image", name, n, *errs(gain(left, right, n // 32), truth))
    for n, batches, (first, second) in itertools.product(IMAGES, (2, 5, 20), ((0.9, 0.3), (0.6, 0.4))):
        size = n // batches
        kind = rng.random((count, batches, 1, 10)) < 0.5
        left = rng.random((count, batches, size, 1)) < np.where(kind, first, second)
        left, right = left.reshape(count, batches * size, 10), rng.random((count, batches * size, 1)) < 0.5
        truth = (first + second) / 2 - 0.5
        name = f"{batches} batches; a draw has {first:.0%} right with 50%, else {second:.0%}; base 50%"
        found = errs(gain(left, right, batches), truth)
        yield Cell("gains, draws that a batch shares", name, batches * size, *found)


def batch_cells(rng: np.random.Generator, count: int) -> Iterator[Cell]:
    """Random batches of K of the evaluated images, each in a draw of its own."""
    for n, batches in itertools.product(IMAGES, (2, MOST_BATCHES)):
        size = (count, batches)
        odd = {f"{share:.1%} of images always right": max(round(share * n), 1) for share in ODD}
        answers: dict[str, tuple[Floats, float]] = {
            name: (rng.hypergeometric(m, n - m, min(K, n), size) / min(K, n), m / n)
            for name, m in odd.items()
        }
        answers["one draw of ten has all right"] = ((rng.random(size) < 0.1).astype(float), 0.1)
        answers["2% of batches survive"] = ((rng.random(size) < 0.02).astype(float), 0.02)
        for share in (0.1, 0.5, 0.9):
            answers[f"{share:.0%} right"] = (rng.binomial(K, share, size) / K, share)
        for name, (values, share) in answers.items():
            truth = np.full(count, share)
            lower, upper = ever(-values, -truth, 0.0), ever(values, truth, 1.0)
            yield Cell(
                "random batches, at any look", f"{name}, up to {batches} batches", n, lower, upper, np.nan
            )


def victim_cells(rng: np.random.Generator, count: int) -> Iterator[Cell]:
    """Victims, each in a batch of its own, of 640 evaluated images; one answer each, or ten."""
    for n, draws, share in itertools.product((16, 32, 64, 172), (1, 10), (*ODD, 0.1, 0.5)):
        odd = round(share * 640)
        seen = rng.hypergeometric(odd, 640 - odd, n, count)
        p = np.where(np.arange(n) < seen[:, None], 0.9, 0.05)
        mean = rng.binomial(draws, p) / draws
        truth = (odd * 0.9 + (640 - odd) * 0.05) / 640
        name = f"{draws} draws; {share:.1%} of images right in 90%, others in 5%"
        yield Cell("victims", name, n, *errs(exact(mean.sum(axis=1), n, TAIL), truth))


KINDS: tuple[Callable[[np.random.Generator, int], Iterator[Cell]], ...] = (
    deterministic_cells,
    random_cells,
    gain_cells,
    batch_cells,
    victim_cells,
)


def simulate(count: int) -> list[Cell]:
    """Every cell."""
    return [cell for kind in KINDS for cell in kind(np.random.default_rng(SEED), count)]


def by_chance(figures: int, count: int, rate: float = TAIL) -> float:
    """The median of the largest of so many figures, each of ``count`` evaluations that err at ``rate``."""
    return float(binom.ppf(0.5 ** (1 / figures), count, rate)) / count


def summary(cells: list[Cell], count: int) -> Iterator[str]:
    """Markdown: a line a formula, its worst cells, and what simulation error alone would give."""
    yield "| formula | nominal | cells | lower end errs at most | upper end errs at most | by chance alone |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    kinds = dict.fromkeys((cell.formula, cell.beyond) for cell in cells)
    for formula, beyond in kinds:
        own = [cell for cell in cells if (cell.formula, cell.beyond) == (formula, beyond)]
        worst = f"{max(c.lower for c in own):.1%} | {max(c.upper for c in own):.1%}"
        name = f"**{formula}: {beyond}**" if beyond else formula
        yield f"| {name} | 2.5% | {len(own)} | {worst} | {by_chance(2 * len(own), count):.1%} |"


def every(cells: list[Cell]) -> Iterator[str]:
    """Markdown: a line a cell."""
    yield "| formula | population | n | lower end errs | upper end errs | mean width |"
    yield "| --- | --- | ---: | ---: | ---: | ---: |"
    for c in cells:
        width = "" if np.isnan(c.width) else f"{100 * c.width:.1f}"
        yield f"| {c.formula} | {c.population} | {c.n} | {c.lower:.2%} | {c.upper:.2%} | {width} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="put the tables into the pages")
    parser.add_argument("--smoke", action="store_true", help=f"{SMOKE} evaluations a cell")
    given = parser.parse_args()
    count = SMOKE if given.smoke else SIMULATIONS
    cells = simulate(count)
    worst, lines = "\n".join(summary(cells, count)), "\n".join(every(cells))
    print(worst, lines, sep="\n\n")
    if given.write:
        write("error-rates", worst, NUMBERS)
        write("error-rates", worst)
        write("cells", lines)


def write(name: str, lines: str, page: Path = TABLES) -> None:
    """Puts a table between its marks on a page of the documentation."""
    page.write_text(placed(page.read_text(encoding="utf-8"), name, lines), encoding="utf-8")


def placed(text: str, name: str, lines: str) -> str:
    """The text of a page with a table between its marks."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    head, _, rest = text.partition(begin)
    return f"{head}{begin}\n\n{lines}\n\n{end}{rest.partition(end)[2]}"


if __name__ == "__main__":
    main()
