"""Which words an evaluation with ``--until`` asks for: subjects under one threat model and budget.

settings_judged(config, rows) -> {Lane: (CaseKey, ...)}
claimed_setting(config, eps)  -> (threat, eps), or None
"""

from collections.abc import Sequence

from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.cases import AttackCase
from robustbench_coded.evaluation.planning.rounds import Lane, lane_of
from robustbench_coded.schema.case import CaseKey
from robustbench_coded.schema.controls import CONTROLS, STANDARD


def settings_judged(
    config: EvalConfig, rows: Sequence[AttackCase], eps: Sequence[float]
) -> dict[Lane, tuple[CaseKey, ...]]:
    """The settings by which a lane stops, of every lane that may go through the rounds.

    An attacker who knows the draw has what the others find: where these settle a lane, nothing is left to
    ask of him, unless a claim is about him.

    Args:
        rows: all that is planned. eps: the radii.
    """
    attacks = [row for row in rows if row.attack not in CONTROLS]
    defended = any(row.subject.spec != STANDARD for row in attacks)
    found: dict[Lane, dict[CaseKey, None]] = {}
    for row in attacks:
        found.setdefault(lane_of(row), {})[row.key.setting] = None
    judged = {}
    for lane, settings in found.items():
        claimed = [
            setting
            for setting in settings
            if claimed_setting(config, eps) == (str(setting.threat), setting.eps)
            and (lane.subject.spec != STANDARD or not defended)
        ]
        weakest = [setting for setting in settings if not setting.threat.draw_known] or list(settings)
        if config.until == "claim":
            asked = claimed
        else:
            asked = list(dict.fromkeys([*weakest, *claimed]))
        if asked:
            judged[lane] = tuple(asked)
    return judged


def claimed_setting(config: EvalConfig, eps: Sequence[float]) -> tuple[str, float] | None:
    """The threat model and radius that a claim is about."""
    if config.claim is None:
        return None
    threat = config.claim_threat or f"{config.inputs[0]}/unknown"
    return threat, config.claim_eps if config.claim_eps is not None else max(eps)
