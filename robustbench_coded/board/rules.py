"""What a run must have before its defence goes on the board (docs/board.md has the rules in words)."""

from collections.abc import Collection, Iterator

from attacks.presets import FOLLOWS_SHOWN, PRESETS, RELAXED
from robustbench_coded.board.source import SubmittedEntry
from robustbench_coded.results.run import Run
from robustbench_coded.schema.controls import CONTROLS
from robustbench_coded.schema.planned_case import PlannedCase
from robustbench_coded.schema.threat_model import WHOLE_BATCH

FEWEST_EXAMPLES = 128  # 0 of so many right leave an upper end below the margin of 3 points
FEWEST_DRAWS = 4
# Of the default presets, what runs on every defence that has a base model and gradients.
REQUIRED = (*PRESETS["paper"], FOLLOWS_SHOWN, "transfer-pgd-20")


def broken_rules(run: Run, entry: SubmittedEntry) -> Iterator[str]:
    """A sentence on each rule that a submission breaks; the first is where to begin."""
    cases = [c for c in run.manifest.rows if (c.defence, c.checkpoint) == (entry.defence, entry.checkpoint)]
    if not cases:
        there = sorted({f"{case.defence} on {case.checkpoint}" for case in run.manifest.rows})
        yield f"the run has no {entry.defence} on {entry.checkpoint}; it has {', '.join(there)}"
        return
    if not run.manifest.finished:
        yield "the run is not finished; the command that began it goes on with it"
    if lost := [failure for failure in run.failures if failure.key.subject == cases[0].subject]:
        yield f"{len(lost)} units have no outcomes ({lost[0].key.attack}: {lost[0].error}); run it again"
    if not (run.path / "adversarials").is_dir():
        yield "no perturbed inputs are stored, so it cannot be verified; run it with --save-adversarials"
    for probe in run.manifest.probes:
        if probe.subject == cases[0].subject and probe.contradictions:
            yield f"the defence contradicts itself: it {probe.contradictions[0]}"
    yield from _scope(run, cases)


def _scope(run: Run, cases: list[PlannedCase]) -> Iterator[str]:
    """Attacks, examples and draws of the headline threat model."""
    whole = [case for case in cases if case.threat == str(WHOLE_BATCH) and not case.for_check]
    ran = {case.attack for case in whole}
    missing = [name for name in _required(cases[0], ran) if name not in ran]
    if missing:
        yield f"it lacks {', '.join(missing)} under {WHOLE_BATCH}; run --attacks paper,adaptive (the default)"
    attacked = [case for case in whole if case.attack not in CONTROLS]
    if any(case.stopped for case in attacked):
        yield "its attacks were stopped at a query budget; run it without --budget"
    examples = min((case.examples_planned for case in attacked), default=0)
    if examples < FEWEST_EXAMPLES:
        yield f"it has {examples} examples, and {FEWEST_EXAMPLES} are the fewest; raise --limit"
    draws = min((case.draws for case in attacked), default=0)
    if cases[0].randomised and draws < FEWEST_DRAWS:
        yield f"it has {draws} scoring draws, and {FEWEST_DRAWS} are the fewest; raise --draws"
    if run.manifest.last.options.get("checks") is False:
        yield "the attacks of the checks were left out; run it with --checks"


def _required(case: PlannedCase, ran: Collection[str]) -> list[str]:
    transfer = case.has_base and case.defence != "standard"
    required = [name for name in REQUIRED if transfer or not name.startswith("transfer-")]
    # Where operators hide the gradient, the default may stop after the relaxed attack.
    return [name for name in required if name != FOLLOWS_SHOWN or RELAXED[0] not in ran]
