"""Where a defence's accuracy above its base model comes from: three differences between attackers.

    decomposition(rows, ensemble) -> list[Part]
    sentence(parts)               -> str

* randomness: an attack with fresh draws less the same attack with its draw known;
* optimisation: the attack with its draw known less one that also starts from transfer and runs longer;
* coupling: an attack on the whole batch less the same attack on one victim among clean co-batched inputs.

What the first two take away was never robustness of the network: it falls as soon as the attacker knows more
or optimises better. Each part is the paired difference of two measured rows; parts whose rows were not run
are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from robustbench_coded.schema.case import CaseKey
from robustbench_coded.schema.threat_model import ONE_VICTIM
from robustbench_coded.schema.words import Advantage
from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.comparisons import (
    accuracy_of,
    attacks_under,
    difference_of,
    differs_only_in,
    lowest,
    name_of,
)
from robustbench_coded.statistics.paired import Difference


@dataclass(frozen=True)
class Part:
    """What one advantage of the attacker takes away.

    Attributes:
        difference: accuracy under ``without`` less that under ``with_``, as a fraction.
        without, with_: the rows of the attacker who lacks the advantage and of the one who has it.
    """

    source: Advantage
    difference: Difference
    without: CaseKey
    with_: CaseKey


def decomposition(rows: Sequence[CaseResult], ensemble: CaseResult) -> list[Part]:
    """The parts that the rows of a run allow, for the defence, budget and attacked inputs of ``ensemble``."""
    setting, threat = ensemble.key.setting, ensemble.key.threat
    unknown = attacks_under(rows, setting.under(threat.with_draw("unknown")))
    known = attacks_under(rows, setting.under(threat.with_draw("known")))
    victim = attacks_under(rows, setting.under(ONE_VICTIM)) if threat.whole_batch else []
    parts = []
    # The pair with most steps says most about knowledge and least about optimisation.
    same = [
        (blind, aware)
        for blind in unknown
        for aware in known
        if name_of(blind).estimator == "fresh"
        and differs_only_in(name_of(aware), name_of(blind), "estimator")
    ]
    pair = max(same, key=lambda pair: name_of(pair[0]).steps or 1, default=None)
    if pair is not None:
        parts.append(_part(Advantage.RANDOMNESS, *pair))
    started = [
        row for row in known if (init := name_of(row).init) is not None and init.estimator == "transfer"
    ]
    plain = [row for row in known if name_of(row).init is None]
    if started and plain:
        aware = pair[1] if pair is not None else lowest(plain)
        parts.append(_part(Advantage.OPTIMISATION, aware, lowest(started)))
    both = [(whole, one) for whole in unknown for one in victim if whole.key.attack == one.key.attack]
    if both:
        parts.append(_part(Advantage.COUPLING, *min(both, key=lambda pair: accuracy_of(pair[1]))))
    return [part for part in parts if part is not None]


def sentence(parts: Sequence[Part]) -> str:
    """Which advantages certainly take something away, largest first; '' without parts."""
    if not parts:
        return ""
    settled = sorted(
        (part for part in parts if part.difference.low > 0), key=lambda part: -part.difference.estimate
    )
    if not settled:
        sources = [part.source for part in parts]
        if len(sources) == 1:
            return f"{sources[0].capitalize()} makes no certain difference."
        return f"Neither {' nor '.join(sources)} certainly makes a difference."
    told = [
        f"{part.source}, {part.difference}, from {part.without.attack} under {part.without.threat} to "
        f"{part.with_.attack} under {part.with_.threat}"
        for part in settled
    ]
    return "What the stronger attacker takes away: " + "; ".join(told) + "."


def _part(source: Advantage, without: CaseResult, with_: CaseResult) -> Part | None:
    difference = difference_of(without, with_)
    return None if difference is None else Part(source, difference, without.key, with_.key)
