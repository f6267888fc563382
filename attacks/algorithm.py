"""Declarations of algorithms, each above its class: ``@Algorithm("pgd", "PGD", ...)``.

Names are checked and listed before torch is imported, so the declarations are read from the source of this
package: their arguments are literals. What is none, such as a function that counts queries, is known once the
algorithm's module is imported (`Algorithm.written`).
"""

import ast
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

# gradient: through the defence. search: compares scores. estimate: of the gradient, from scores. decision:
# labels alone. nearest: the nearest wrong answer, whatever eps is, by gradients.
Family = Literal["gradient", "search", "estimate", "decision", "nearest"]
WITHOUT_GRADIENTS: tuple[Family, ...] = ("search", "decision", "estimate")
LossName = Literal["ce", "margin", "dlr"]
AUTO_PGD = "auto-pgd"  # the kind of attacks that other packages have

# A search compares two points under the same draws; with one draw it would overfit to that draw.
SEARCH_DRAWS = 5

Written = TypeVar("Written", bound=Callable[..., Any])


class Cost(NamedTuple):
    """Forwards and backwards of each input, about."""

    forwards: float
    backwards: float


@dataclass(frozen=True)
class Algorithm:
    """One algorithm, declared by the decorator of its class, or of a function that builds it.

    Attributes:
        authors: how they spell it; in names of attacks it has no capitals.
        sentence: as reports name it.
        example: a number of steps for lists.
        about: the first sentence of its docstring.
        paper: its arXiv number.
        takes: what its name may say beside ``init`` and ``target``; all of it are arguments of the class.
        fixed: further arguments.
        norms: that it knows.
        family: what it asks of the defence.
        loss: what it raises unless the attack's name says otherwise; None where that is unknown.
        kind: attacks of one kind tend to find the same.
        cost: (attack, whether answers are random) -> cost of it all, where a step, which restarts repeat, is
            not one gradient, or one query of ``WITHOUT_GRADIENTS``. costs: the same in words.
        step_size: (eps, steps) -> its step size where the name states none, in units of eps's space; None
            where no such size is reported.
        fewest_steps: below which it can't make a move.
        stops_early: False if it goes on with examples that are answered wrongly.
        plain: one gradient a step from a random start. Losses by step are kept, and others are measured by
            its lengths.
        chooses_draws: it averages nothing: it holds many draws and attacks those that can fall together.
        counts_starts: its number counts starts, not steps.
        informative: whether its figure says what a network keeps. One step, a search for jumps, or one in
            parts of the ball does not.
        module, solver: where it is written, and what builds it.
    """

    authors: str
    sentence: str
    _: KW_ONLY
    example: int = 100
    about: str = ""
    paper: str = ""
    takes: tuple[str, ...] = ("steps",)
    fixed: dict[str, Any] = field(default_factory=dict)
    norms: tuple[str, ...] = ("linf", "l2", "l1")
    family: Family = "gradient"
    loss: LossName | None = "margin"
    kind: str = "ascent"
    cost: Callable[[Any, bool], Cost] | None = None
    costs: str = ""
    step_size: Callable[[float, int], float] | None = None
    fewest_steps: int = 1
    stops_early: bool = True
    plain: bool = False
    chooses_draws: bool = False
    counts_starts: bool = False
    informative: bool = True
    module: str = ""
    solver: Callable[..., Any] | None = None

    def __call__(self, solver: Written) -> Written:
        """Declares the class, or a function that builds an attack."""
        _WRITTEN[self.name] = replace(self, module=solver.__module__, solver=solver)
        return solver

    @property
    def name(self) -> str:
        """As names of attacks have it."""
        return self.authors.lower()

    @property
    def written(self) -> "Algorithm":
        """The whole declaration, whose module is imported for it."""
        if self.name not in _WRITTEN and self.module:
            import_module(self.module)
        return _WRITTEN.get(self.name, self)

    @property
    def asks_answers_alone(self) -> bool:
        """True if it asks for no gradients."""
        return self.family in WITHOUT_GRADIENTS

    @property
    def may_stop(self) -> bool:
        """True if it may leave examples alone once they are answered wrongly."""
        return self.stops_early and self.family != "nearest"

    @property
    def draws(self) -> int:
        """Fresh draws at each question, unless the name says otherwise."""
        return SEARCH_DRAWS if self.family in ("search", "decision") else 1

    @property
    def facts(self) -> tuple[str, str, str]:
        """Its cost, its norms and its paper, as lists have them."""
        cost = self.costs or f"a {'query' if self.asks_answers_alone else 'gradient'} a step"
        return cost, ", ".join(self.norms), f"arXiv {self.paper}" if self.paper else "csrobust"


_WRITTEN: dict[str, Algorithm] = {}


def declared_in(source: str, module: str) -> Iterator[Algorithm]:
    """The algorithms that a module declares, as far as literals say; the module is not run."""
    for node in ast.parse(source).body:
        for call in getattr(node, "decorator_list", ()):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == Algorithm.__name__:
                names = [ast.literal_eval(argument) for argument in call.args]
                known = {}
                for each in call.keywords:
                    with suppress(ValueError):  # no literal
                        known[str(each.arg)] = ast.literal_eval(each.value)
                about = (ast.get_docstring(node) or "").partition(".")[0]  # type: ignore[arg-type]
                yield Algorithm(*names, **known, about=" ".join(about.split()), module=module)


def _declared() -> dict[str, Algorithm]:
    files = sorted(Path(__file__).parent.glob("*.py"))
    sources = {f"{__package__}.{file.stem}": file.read_text(encoding="utf-8") for file in files}
    marked = {module: source for module, source in sources.items() if f"\n@{Algorithm.__name__}(" in source}
    return {each.name: each for module in marked for each in declared_in(marked[module], module)}


ALGORITHMS = _declared()
