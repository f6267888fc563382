"""What several runs do not share: differences that would make a comparison meaningless."""

from collections.abc import Callable, Iterator, Mapping

from robustbench_coded.reports.text.formatting import budget_text, series
from robustbench_coded.results.run import Run
from robustbench_coded.schema.case import BudgetKey
from robustbench_coded.schema.controls import CONTROLS
from robustbench_coded.schema.manifest import RunManifest

SHARED: dict[str, Callable[[RunManifest], object]] = {
    "the data": lambda manifest: manifest.identity.data,
    "the number of examples": lambda manifest: manifest.data.examples,
    "the choice of examples": lambda manifest: manifest.identity.subset or "first, or all",
    "the draws: seeds": lambda manifest: manifest.identity.seed,
    "the last-batch rule": lambda manifest: manifest.identity.last_batch,
    "the device": lambda manifest: manifest.last.machine.device,
    "the version of csrobust": lambda manifest: manifest.last.versions.get("csrobust"),
}


def incompatibilities_of(runs: dict[str, Run]) -> Iterator[str]:
    """One sentence per thing in which runs differ."""
    manifests = {name: run.manifest for name, run in runs.items()}
    for what, of in SHARED.items():
        yield from settings_apart(what, {name: of(manifest) for name, manifest in manifests.items()})
    yield from batches_apart({name: _batch_sizes(run) for name, run in runs.items()})
    yield from weights_apart(manifests)
    yield from _other_budgets(runs)


def settings_apart(what: str, values: Mapping[str, object]) -> Iterator[str]:
    """A sentence where runs differ in one setting, given by run."""
    if len(set(map(str, values.values()))) > 1:
        yield f"Runs differ in {what}: {_each(values)}."


def batches_apart(sizes: Mapping[str, str]) -> Iterator[str]:
    """A sentence where runs differ in their batches, given by run."""
    if len(set(sizes.values())) > 1:
        yield (
            f"Runs differ in the batches: K = {_each(sizes)}. "
            "Differences are then computed over groups of examples that are unions of batches in both."
        )


def weights_apart(manifests: Mapping[str, RunManifest]) -> Iterator[str]:
    """A sentence for each checkpoint whose name means different weights."""
    weights: dict[str, dict[str, str]] = {}
    for name, manifest in manifests.items():
        for facts in manifest.checkpoints:
            weights.setdefault(facts.name, {})[name] = facts.sha256
    for checkpoint, hashes in weights.items():
        if len(set(hashes.values())) > 1:
            yield f"{checkpoint} is not the same file in {series(list(hashes))}: the weights differ."


def _each(values: Mapping[str, object]) -> str:
    return ", ".join(f"{value} in {name}" for name, value in values.items())


def _batch_sizes(run: Run) -> str:
    return series([str(k) for k in sorted({row.k for row in run.manifest.rows if row.k is not None})])


def _other_budgets(runs: dict[str, Run]) -> Iterator[str]:
    found = {name: _budgets(run) for name, run in runs.items()}
    for budget in dict.fromkeys(b for budgets in found.values() for b in budgets):
        without = [name for name, budgets in found.items() if budget not in budgets]
        if without and len(without) < len(found):
            words = budget_text(budget)
            yield f"No attack under {words} in {series(without)}; eps and its space are never mixed."


def _budgets(run: Run) -> list[BudgetKey]:
    """The budgets that attacks ran under because they were asked for."""
    attacked = dict.fromkeys(line.budget for line in run.rows if line.attack not in CONTROLS)
    return [budget for budget in attacked if budget in run.manifest.judged_budgets]
