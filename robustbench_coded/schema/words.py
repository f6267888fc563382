"""Names that runs use and code decides by: rows that are no attacks, names of checks, outcomes,
verdicts.
"""

from enum import StrEnum

# Three points of accuracy: a gain that is certainly smaller is none, and attacks this close count as equally
# strong.
MARGIN = 0.03

CLEAN = "clean"
RANDOM_SIGN = "random-sign"
CONTROLS = (CLEAN, RANDOM_SIGN)
STRONGEST = "strongest"
ENSEMBLE = "ensemble"
COMBINED = (STRONGEST, ENSEMBLE)

STANDARD = "standard"  # the defence that is none: the checkpoint's own answers
BESIDE = "standard inference"  # the stage that evaluates it beside a defence around the checkpoint


class Rung(StrEnum):
    """The rungs of the protocol, in their order (docs/protocol.md)."""

    CLEAN = "clean"
    QUICK = "quick"
    CONFIRM = "confirm"
    NAMED_ROWS = "named rows"
    ADAPTIVE = "adaptive"
    SELF_TESTS = "self-tests"
    CROSS_EXAMINATION = "cross-examination"
    BEFORE_POSITIVE = "before a positive verdict"
    MORE_EXAMPLES = "more examples"


class CheckName(StrEnum):
    """The checks of a threat model, in the order in which reports list them."""

    ANOTHER_LOSS = "another loss"
    TRANSFER_OR_BLACK_BOX = "transfer or black-box"
    ATTACKS_AGREE = "attacks agree"
    TWICE_THE_STEPS = "twice the steps"
    TWICE_THE_DRAWS = "twice the draws"
    TWICE_THE_RESTARTS = "twice the restarts"
    SELF_TESTS = "self-tests"  # one that failed is listed by its own name, ``self-tests: NAME``


# Those that compare an attack with itself at twice the length.
DOUBLING = frozenset({CheckName.TWICE_THE_STEPS, CheckName.TWICE_THE_DRAWS, CheckName.TWICE_THE_RESTARTS})
# Those that ask for restarts, which run only before a positive verdict.
BEFORE_POSITIVE = frozenset({CheckName.ATTACKS_AGREE, CheckName.TWICE_THE_RESTARTS})

# Self-tests of the gradient alone: what they leave open, attacks without gradients may answer.
GRADIENT_SELF_TESTS = frozenset(
    {
        "gradients along the path",
        "finite differences",
        "steps uphill",
    }
)

# The self-test that repeats them with the defence's operators relaxed, where one of them failed.
RELAXED_SELF_TEST = "relaxed gradients"
RELAXED_CHECK = f"{CheckName.SELF_TESTS}: {RELAXED_SELF_TEST}"


class CheckOutcome(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"


class IntervalKind(StrEnum):
    """The subject of an interval (docs/numbers.md)."""

    EVALUATED_IMAGES = "evaluated images"
    POPULATION = "population"

    @property
    def phrase(self) -> str:
        """``for the evaluated images`` or ``for the population``."""
        return f"for the {self}"


class VerdictName(StrEnum):
    """The verdicts on a defence under one threat model (docs/verdicts.md)."""

    NO_GAIN = "no gain"
    WORSE_THAN_BASE = "worse than its base"
    NO_FAILURE_FOUND = "no failure found"
    NOT_SETTLED = "not settled"
    BROKEN = "broken"
    CLAIM_REFUTED = "claim refuted"
