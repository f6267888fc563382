"""What ``--inputs`` asks for: whose inputs of a batch are the attacker's."""

from collections.abc import Iterable

from robustbench_coded.errors import InputError
from robustbench_coded.schema.threat_model import INPUTS, ThreatModel


def inputs_for(asked: Iterable[str], k: int) -> list[str]:
    """The inputs asked for, on batches of ``k``: ``collateral`` is M = 1, 2, 4 ... below K, both ways."""
    found: dict[str, None] = {}
    for inputs in asked:
        powers = [2**i for i in range(k.bit_length()) if 2**i < k] if inputs == "collateral" else []
        found |= dict.fromkeys(f"collateral-{m}{where}" for where in ("", "-box") for m in powers)
        malicious = None if inputs == "collateral" else ThreatModel(inputs, "unknown").malicious
        if inputs != "collateral" and (malicious is None or malicious < k):
            found[inputs] = None
    return list(found)


def check_inputs(asked: Iterable[str], eps: Iterable[float]) -> None:
    """Raises InputError for a word that ``--inputs`` does not know, or that makes no sense at eps 0."""
    for inputs in asked:
        try:
            free = inputs == "collateral" or ThreatModel(inputs, "unknown").free
        except ValueError:
            raise InputError(f"--inputs {inputs!r} is not known; choose from {', '.join(INPUTS)}") from None
        if free and 0.0 in eps:
            whom = "a co-batch attacker's victim" if inputs == "co-batch" else "collateral attackers"
            raise InputError(f"--eps 0 leaves {whom} where they are; give an eps above 0")
