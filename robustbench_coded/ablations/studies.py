"""What is varied: Tables 1, 6, 7, 8 and 9 of arXiv 2510.00253, and the codec's order and points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from robustbench_coded.ablations.point import STANDARD, USUAL, Inference, Point
from robustbench_coded.ablations.settings import AblationSettings
from robustbench_coded.coding.sizes import coded_size
from robustbench_coded.errors import InputError
from robustbench_coded.training.recipes.registry import RECIPES, build_recipe

ROBUST = ("pgd-10", "transfer-pgd-20")
ORDERS = tuple(
    Inference(f"RCI N=1.5K, order {order}", "1.5K", {"order": order} if order != 3 else {}, ROBUST)
    for order in (1, 3, 5)
)
NODES = tuple(
    Inference(f"RCI N=1.5K, {nodes}", "1.5K", {"nodes": nodes} if nodes != "chebyshev" else {}, ROBUST)
    for nodes in ("chebyshev", "uniform")
)
# The sets of the paper's Table 8.
PAPERS_SETS: tuple[tuple[int, ...], ...] = (
    (0,),
    (3,),
    (0, 1),
    (0, 2),
    (1, 3),
    (0, 1, 2),
    (0, 1, 2, 3),
    (0, 1, 2, 3, 4),
)


@dataclass(frozen=True)
class Study:
    """One table.

    Attributes:
        name: as given to ``csrobust ablate``.
        title: what is varied, in words.
        head: title of the column that says so.
        table: the paper's table, if it has one.
        points: the runs for these settings, or for the usual ones where there are none.
        inferences: how each of them is asked.
    """

    name: str
    title: str
    head: str
    table: str | None
    points: Callable[[AblationSettings, Sequence[str]], list[Point]]
    inferences: tuple[Inference, ...] = USUAL


def _n(settings: AblationSettings, values: Sequence[str]) -> list[Point]:
    points = []
    # The paper's sizes are for K = 128; at another K they keep their ratio to it.
    usual = [110, 130, 150, 170, 190]
    for value in values or [str(round(n * settings.k / 128)) for n in usual]:
        try:
            n = coded_size(value, settings.k)
        except ValueError as error:
            raise InputError(f"--values {value}: {error}") from error
        ratio = n / settings.k
        paper = str(n) if settings.k == 128 else None
        points.append(Point(str(n), settings.coded(n_start=ratio, n_end=ratio), n, paper))
    return points


def _mu(settings: AblationSettings, values: Sequence[str]) -> list[Point]:
    points = []
    for value in values or ("0.1", "0.2", "0.4", "0.5", "0.6", "0.8", "1.0"):
        mu = _number(value, 0, 1)
        points.append(Point(f"{mu:g}", settings.coded(mu=mu), mu, f"{mu:g}"))
    return points


def _blocks(settings: AblationSettings, values: Sequence[str]) -> list[Point]:
    count = settings.block_count
    points = []
    for value in values or ["+".join(map(str, blocks)) for blocks in usual_sets(count)]:
        if not all(part.isdecimal() for part in value.split("+")):
            raise InputError(f"--values {value}: write block sets as 0,0+1,0+1+2")
        blocks = tuple(sorted({int(part) for part in value.split("+")}))
        if blocks[-1] >= count:
            raise InputError(f"--values {value}: this architecture has {count} blocks, 0 to {count - 1}")
        name = ",".join(map(str, blocks))
        # All blocks are the whole network: the run that the other studies have, too.
        coded = () if len(blocks) == count else blocks
        points.append(Point(name, settings.coded(blocks=coded), paper=name if count == 5 else None))
    return points


def usual_sets(count: int) -> list[tuple[int, ...]]:
    """The paper's sets that a network of ``count`` blocks has, and the whole network; of three blocks all."""
    if count <= 3:
        every = [tuple(i for i in range(count) if mask >> i & 1) for mask in range(1, 2**count)]
        return sorted(every, key=lambda blocks: (len(blocks), blocks))
    sets = [blocks for blocks in PAPERS_SETS if blocks[-1] < count]
    whole = tuple(range(count))
    return sets if whole in sets else [*sets, whole]


def _dropout(settings: AblationSettings, values: Sequence[str]) -> list[Point]:
    rates = [_number(value, 0, 0.99) for value in values or ("0", "0.1")]
    points = []
    for recipe in ("erm", "coded"):
        for rate in rates:
            name = f"{recipe}, dropout {rate:g}" if rate else recipe
            config = settings.trained_by(recipe, dropout=rate)
            points.append(Point(name, config, paper=f"{recipe}_dropout" if rate else recipe))
    return points


def _order(settings: AblationSettings, values: Sequence[str]) -> list[Point]:
    points = [Point("erm (no codec)", settings.trained_by("erm"))]
    for value in values or ("1", "3", "5"):
        if value not in ("1", "3", "5"):
            raise InputError(f"--values {value}: splines have order 1, 3 or 5")
        points.append(Point(value, settings.coded(order=int(value))))
    return points


def _nodes(settings: AblationSettings, values: Sequence[str]) -> list[Point]:
    points = [Point("erm (no codec)", settings.trained_by("erm"))]
    for value in values or ("chebyshev", "uniform"):
        if value not in ("chebyshev", "uniform"):
            raise InputError(f"--values {value}: points are chebyshev or uniform")
        points.append(Point(value, settings.coded(nodes=value)))
    return points


def _recipe(settings: AblationSettings, values: Sequence[str]) -> list[Point]:
    points = []
    for value in values or RECIPES:
        build_recipe(value)  # refuses unknown names
        points.append(Point(value, settings.trained_by(value), paper=value))
    return points


def _number(text: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise InputError(f"--values {text}: give numbers from {low:g} to {high:g}")
    return value


STUDIES = {
    study.name: study
    for study in (
        Study("recipe", "Training recipes", "training", "Table 1", _recipe),
        Study("n", "Fixed number of coded inputs in training", "N", "Table 6", _n),
        Study("mu", "Weight of the coded path", "mu", "Table 7", _mu),
        Study("blocks", "Blocks on the coded path", "blocks", "Table 8", _blocks),
        Study("dropout", "Dropout after the second batch-norm", "training", "Table 9", _dropout),
        Study(
            "order",
            "Order of the splines, in training (rows) and in RCI (columns)",
            "order in training",
            None,
            _order,
            (STANDARD, *ORDERS),
        ),
        Study(
            "nodes",
            "Interpolation points, in training (rows) and in RCI (columns)",
            "points in training",
            None,
            _nodes,
            (STANDARD, *NODES),
        ),
    )
}


def study_named(name: str) -> Study:
    """A study by its name.

    Raises:
        InputError: there is none of that name.
    """
    if name not in STUDIES:
        raise InputError(f"there is no ablation of {name!r}; choose from {', '.join(STUDIES)}")
    return STUDIES[name]
