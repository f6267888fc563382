"""What a claim may be about: a threat model that has verdicts, and a radius that is evaluated."""

from collections.abc import Sequence

from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.schema.claim import ClaimedAccuracy, setting_of_claim
from robustbench_coded.schema.threat_model import INPUTS, RANDOMNESS, ThreatModel


def check_claim(config: EvalConfig) -> None:
    """Refuses what a claim cannot be about, and words about a claim where none is made.

    Raises:
        InputError: the first of them.
    """
    if config.claim is None:
        for flag, given in (
            ("--claim-threat", config.claim_threat is not None),
            ("--claim-eps", config.claim_eps is not None),
            ("--claim-attack", config.claim_attack is not None),
            ("--claim-accuracy", config.claim_accuracy != ClaimedAccuracy.MEAN),
        ):
            if given:
                raise InputError(f"{flag} needs a claim to be about; add --claim 72%")
        return
    threat, _ = setting_of_claim(config.claim_threat, config.claim_eps, config.inputs, ())
    if not _judged(threat):
        wrong = f"--claim-threat {threat} is no threat model with a verdict"
        if config.claim_threat is None:
            wrong = f"--claim needs --claim-threat, for --inputs {config.inputs[0]} has no verdict"
        raise InputError(
            f"{wrong}; write one of {', '.join(INPUTS[:3])}, a slash, and {' or '.join(RANDOMNESS)}: "
            "batch/unknown"
        )
    if config.eps is not None:
        check_claimed_eps(config, config.eps)


def check_claimed_eps(config: EvalConfig, eps: Sequence[float]) -> None:
    """Refuses a claim about a radius that is not evaluated.

    Raises:
        InputError: it is not among ``eps``.
    """
    if config.claim_eps is not None and config.claim_eps not in eps:
        known = ", ".join(f"{radius:g}" for radius in eps)
        raise InputError(f"--claim-eps {config.claim_eps:g} is not among --eps {known}; add it there")


def _judged(text: str) -> bool:
    try:
        return not ThreatModel.parse(text).collateral
    except ValueError:
        return False
