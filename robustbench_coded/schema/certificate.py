"""A certified lower bound as a run folder stores it: example by example, for one subject and budget."""

from msgspec import Struct

from robustbench_coded.schema.case import BudgetKey, SubjectKey
from robustbench_coded.schema.threat_model import ThreatModel


class Certificate(Struct, frozen=True, kw_only=True):
    """What one kind of bound says of one subject within one budget.

    Attributes:
        inputs, randomness: of the threat models that it holds under.
        method: how it was found, in words.
        missing: why there is none, as a clause; empty where there is one.
        chance: whether ``right`` bounds the probability of a right answer in a fresh draw, and holds with
            probability 1 - ``alpha`` for all examples together; else each is of one draw, and certain.
        alpha, samples: of bounds that are counted; samples of each example.
        example, batch: of each example.
        draw: scoring draws, in order; one, of no meaning, where ``chance``.
        right: [examples][draws], 1 where the answer is right whatever an attack does, else 0, or a
            probability.
    """

    checkpoint: str
    defence: str
    k: int | None
    n: int | None
    norm: str
    eps: float
    eps_space: str
    inputs: tuple[str, ...] = ()
    randomness: tuple[str, ...] = ()
    method: str = ""
    missing: str = ""
    chance: bool = False
    alpha: float | None = None
    samples: int | None = None
    example: tuple[int, ...] = ()
    batch: tuple[int, ...] = ()
    draw: tuple[int, ...] = ()
    right: tuple[tuple[float, ...], ...] = ()

    @property
    def subject(self) -> SubjectKey:
        return SubjectKey(self.checkpoint, self.defence, self.k, self.n)

    @property
    def budget(self) -> BudgetKey:
        return BudgetKey(self.norm, self.eps, self.eps_space)

    def covers(self, threat: ThreatModel) -> bool:
        """Whether it holds under a threat model."""
        return threat.inputs in self.inputs and threat.randomness in self.randomness
