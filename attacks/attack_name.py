"""What the name of an attack says, read by ``attacks.naming``."""

from dataclasses import dataclass, field
from typing import Literal

EstimatorName = Literal[
    "fresh",
    "fixed",
    "aware",
    "transfer",
    "bpda",
    "gmsaavg",
    "gmsamin",
    "eotauto",
    "submitted",
    "surrogate",
]
SUBMITTED: EstimatorName = "submitted"

# gradient: through the defence. search: compares scores. estimate: of the gradient, from scores. decision:
# labels alone. nearest: the nearest wrong answer, whatever eps is, by gradients.
Family = Literal["gradient", "search", "estimate", "decision", "nearest"]
WITHOUT_GRADIENTS: tuple[Family, ...] = ("search", "decision", "estimate")


@dataclass(frozen=True)
class AttackName:
    """Attributes:
    text: the name as given, as stored in results.
    estimator: what the attacker knows.
    draws: fresh draws averaged in each query (M); 1 for the other estimators.
    rounds: of a greedy model-space attack, else 1.
    algorithm: a name of the ``CATALOGUE``, or a third-party package's name for it.
    steps: steps, or queries of a black-box attack; None for FGSM.
    step_size: in units of eps's space; None for the algorithm's default.
    third_party: the package an attack comes from, "torchattacks" or "autoattack"; "plugin" for one of the
        user's own, whose algorithm is ``package.module:name`` or ``file.py:name``; None for one of ours.
    options: ``(option, value)`` in the order given, as text.
    relaxed: whether operators that hide the gradient have a smooth backward.
    family: what the algorithm asks of the defence, by its algorithm; None for another's attack.
    init: the attack whose result this one continues from.
    """

    text: str
    estimator: EstimatorName
    draws: int
    rounds: int
    algorithm: str
    steps: int | None
    step_size: float | None
    third_party: str | None = None
    options: tuple[tuple[str, str], ...] = ()
    relaxed: bool = False
    family: Family | None = field(default=None, compare=False)
    init: "AttackName | None" = field(default=None, compare=False)

    @property
    def is_submitted(self) -> bool:
        """Whether its perturbed inputs were made against another subject, or by another attack."""
        return self.estimator == SUBMITTED

    @property
    def target(self) -> int | None:
        """The class that it leads to; None for any but the true one."""
        given = dict(self.options).get("target") if self.third_party is None else None
        return None if given is None else int(given)

    @property
    def uses_base(self) -> bool:
        """Whether it needs the base model."""
        return self.estimator in ("transfer", "bpda") or (self.init is not None and self.init.uses_base)

    @property
    def differentiates(self) -> bool:
        """Whether it asks for gradients of the defence itself."""
        if self.estimator in ("transfer", "bpda", "surrogate", SUBMITTED) or self.family in WITHOUT_GRADIENTS:
            return False
        return self.algorithm.lower() not in ("square", "spsa")
