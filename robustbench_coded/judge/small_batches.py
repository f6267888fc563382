"""A positive verdict is for a batch size: what a short attack in the smallest batch says against it."""

from pathlib import Path

from msgspec import Struct, ValidationError, convert

from robustbench_coded.judge.case_results import CLOSE, CaseResult
from robustbench_coded.judge.checks import Check, NextStep, accuracy_of, passed
from robustbench_coded.judge.intervals import TAIL, clopper_pearson
from robustbench_coded.runs.folder import read_selftests
from robustbench_coded.schema.case import Subject
from robustbench_coded.schema.manifest import RunManifest
from robustbench_coded.schema.words import CheckName, CheckOutcome


class SmallBatches(Struct, frozen=True):
    """Result of a short attack in the smallest batch that a defence answers, as counts of inputs.

    Attributes:
        k: its size. inputs: 0 where no smaller batch than the evaluated one is answered.
        clean: right before the attack; left: right before and after it. eps: of the attack.
    """

    k: int
    inputs: int
    clean: int
    left: int
    eps: float


def small_batches(path: Path, manifest: RunManifest) -> dict[Subject, SmallBatches]:
    """By batch-dependent subject, where a batch smaller than the evaluated one was tried."""
    by_subject = {}
    for probe in manifest.probes:
        data = read_selftests(path, probe.selftests or "")
        try:
            small = {**data.get("small_batches", {}), "eps": data.get("eps")}
            by_subject[probe.subject] = convert(small, SmallBatches)
        except (TypeError, ValidationError):
            continue
    return by_subject


def smaller_batches(ensemble: CaseResult, small: SmallBatches) -> Check:
    """A short attack in the smallest batch takes clearly no more, of what is right there without it, than all
    attacks take in the evaluated ones.

    A positive verdict for a batch size says nothing where nobody sends such batches.
    """
    name, attack = CheckName.SMALLER_BATCHES, f"A short attack in batches of {small.k}"
    if not small.inputs:
        return passed(name, "It answers no smaller batches.")
    fallen = small.clean - small.left
    clean = accuracy_of(ensemble.unattacked) if ensemble.clean is not None else 1.0
    lost = max(clean - accuracy_of(ensemble), 0.0)
    finding = (
        f"{attack} takes {fallen / small.inputs:.1%} of {small.clean / small.inputs:.1%}, all attacks in "
        f"batches of {ensemble.case.subject.k} {lost:.1%} of {clean:.1%}"
    )
    if clopper_pearson(fallen, small.inputs, TAIL)[0] <= lost + CLOSE:
        return passed(name, f"{finding}.")
    step = NextStep(f"evaluate it in batches that are sent (--batch-size {small.k})")
    return Check(name, CheckOutcome.FAILED, f"{finding}: it is fragile there.", next_step=step)
