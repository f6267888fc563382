"""The identity of a unit of work: a hash of all that decides its outcomes, and the name of its files.

The payload is spelled out key by key. Its keys belong to version 1 of the format, whatever the code calls the
same things today: a key that changes, or a value that is written another way, orphans every run that exists.
"""

import hashlib
import json
from typing import Any

from robustbench_coded.evaluation.planning.cases import AttackCase, Unit
from robustbench_coded.schema.words import CONTROLS

FORMAT_VERSION = 1


def unit_payload(unit: Unit, fixed: dict[str, Any], budget: int | None) -> dict[str, Any]:
    """What is hashed, as JSON data.

    Args:
        unit: the unit; its cost (``images``) and its id decide nothing.
        fixed: what decides outcomes beside the case, from `setup.prepare.fixed_facts`.
        budget: images per scored example at which attacks stop, None for no limit.
    """
    case = unit.row
    payload = {
        "format": FORMAT_VERSION,
        "row": _case_payload(case),
        "replicate": 0,
        "groups": [list(group) for group in unit.groups],
        "victims": [{"batch": victim.batch, "slot": victim.slot} for victim in unit.victims],
        "images": None,
        "id": "",
        "context": {key: value for key, value in fixed.items() if key != "checkpoints"},
        "checkpoint_sha256": fixed["checkpoints"][case.subject.checkpoint],
    }
    # Only where it decides something: without it, a unit is what it always was.
    if budget is not None and case.attack not in CONTROLS:
        payload["budget"] = budget
    if case.submission is not None:
        payload["submission"] = case.submission.as_data()
    if unit.random_batches:
        payload["random_batches"] = {"version": 1, "numbers": list(unit.random_batches)}
    return payload


def _case_payload(case: AttackCase) -> dict[str, Any]:
    subject = case.subject
    return {
        "subject": {
            "checkpoint": subject.checkpoint,
            "spec": subject.spec,
            "label": subject.label,
            "k": subject.k,
            "n": subject.n,
            "randomised": subject.randomised,
            "batch_dependent": subject.batch_dependent,
            "has_base": subject.has_base,
            "images": subject.images,
        },
        "threat": {"inputs": case.threat.inputs, "randomness": case.threat.randomness},
        "attack": case.attack,
        "norm": case.norm,
        "eps": case.eps,
        "eps_space": case.eps_space,
        "step_size": case.step_size,
        "for_check": None,  # the same outcomes, for a check or not
    }


def unit_id(payload: dict[str, Any]) -> str:
    """20 hexadecimal digits."""
    return hashlib.blake2b(json.dumps(payload, sort_keys=True).encode(), digest_size=10).hexdigest()
