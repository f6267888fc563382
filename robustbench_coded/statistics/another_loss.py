"""Did an attack on a margin or on targets run? ``no failure found`` needs one, on the defence itself.

    another_loss(rows, ensemble) -> Check      asked before ``no failure found``
    tells(name)                  -> bool       whether an attack's figure says what a network keeps
    past_cross_entropy(name)     -> bool       whether it does, on another loss than cross-entropy
    on_cross_entropy(name)       -> bool       whether the attack raises the cross-entropy, by gradients

Attacks on the cross-entropy can fail. Its gradient vanishes where logits are large, and on a robust network
its attacks stop short: PGD and Auto-PGD on it leave 33.9% of an adversarially trained ResNet-20 of ours,
targeted Auto-PGD leaves 28.9%. More steps of the same attack do not show that, so *twice the steps* passes.
The margin between two logits has neither fault (arXiv 1608.04644, section V; arXiv 2003.01690, section 4).
"""

from collections.abc import Sequence

from attacks.attack_name import AttackName
from attacks.third_party_names import TORCHATTACKS_LINF
from robustbench_coded.schema.words import CheckName, CheckOutcome
from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.check import Check
from robustbench_coded.statistics.comparisons import (
    accuracy_of,
    is_adaptive,
    is_black_box,
    lowest,
    name_of,
    usable_by,
)
from robustbench_coded.statistics.next_steps import run_attacks

FEWEST_STEPS = 10  # of an attack whose figure tells what a network keeps
ASKED = "apgd-mt-20"

# They raise the cross-entropy unless their name says otherwise; those of other packages do, too, by default.
_CROSS_ENTROPY = frozenset(
    name.lower()
    for name in ("pgd", "fgsm", "apgd-ce", "spsa", *TORCHATTACKS_LINF, "PGDL2")
    if name.upper() != "APGDT"
)


def another_loss(rows: Sequence[CaseResult], ensemble: CaseResult) -> Check:
    """Whether such an attack ran with the gradients of what is judged, to its end.

    Square and other searches follow a margin, too, and no gradient: their silence says little, so that they
    do not count here. What they find counts in the ensemble. Where relaxed gradients lead at least as far as
    those that the defence shows, the other loss must have followed them, too.

    Args:
        rows: all rows of the run.
        ensemble: the `ensemble` row of the threat model.
    """
    name = CheckName.ANOTHER_LOSS
    usable = [row for row in usable_by(rows, ensemble) if row.complete]
    adaptive = [row for row in usable if is_adaptive(name_of(row))]
    relaxed = [row for row in adaptive if name_of(row).relaxed]
    shown = [row for row in adaptive if not name_of(row).relaxed]
    hidden = bool(relaxed) and (not shown or accuracy_of(lowest(relaxed)) <= accuracy_of(lowest(shown)))
    found = [row for row in (relaxed if hidden else adaptive) if past_cross_entropy(name_of(row))]
    if found:
        best = lowest(found)
        finding = f"{best.key.attack} leaves {accuracy_of(best):.1%}."
        return Check(name, CheckOutcome.PASSED, finding, {"accuracy": accuracy_of(best)}, (best.key.attack,))
    finding = (
        f"No attack on a margin or on targets ran with its {'relaxed ' if hidden else ''}gradients, and they "
        "find what cross-entropy misses."
    )
    asked = f"relaxed-{ASKED}" if hidden else ASKED
    return Check(name, CheckOutcome.NOT_RUN, finding, next_step=run_attacks(asked), run_next=(asked,))


def tells(name: AttackName) -> bool:
    """FGSM's one step does not say what is left, and neither does a search or a single target."""
    if is_black_box(name) or name.algorithm.lower() == "fgsm" or name.target is not None:
        return False
    return name.steps is None or name.steps >= FEWEST_STEPS


def past_cross_entropy(name: AttackName) -> bool:
    """Whether the attack tells and raises a margin; what one of the user's own raises is not known."""
    if not tells(name) or name.third_party == "plugin":
        return False
    return not on_cross_entropy(name)


def on_cross_entropy(name: AttackName) -> bool:
    """Whether the attack raises the cross-entropy, by gradients."""
    loss = dict(name.options).get("loss")
    raised = loss not in ("margin", "dlr") and name.algorithm.lower() in _CROSS_ENTROPY
    return raised and not is_black_box(name)
