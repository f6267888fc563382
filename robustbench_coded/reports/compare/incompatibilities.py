"""What several runs do not share, so that nobody compares what is not comparable."""

from collections.abc import Iterator, Mapping

from robustbench_coded.results.summary_rows import NULLS, Budget, lines_of
from robustbench_coded.results.run import Run
from robustbench_coded.results.manifest import asked_budgets, part
from robustbench_coded.reports.text.formatting import budget_words, series

SHARED = {
    "data": ("the data", ("identity", "data")),
    "limit": ("the number of examples", ("data", "examples")),
    "seed": ("the draws: seeds", ("identity", "seed")),
    "last_batch": ("the last-batch rule", ("identity", "last_batch")),
    "device": ("the device", ("invocations", -1, "machine", "device")),
    "version": ("the version of csrobust", ("invocations", -1, "versions", "csrobust")),
}


def apart(runs: dict[str, Run]) -> Iterator[str]:
    """One sentence per thing in which runs differ."""
    for what, path in SHARED.values():
        values = {name: part(run.manifest, *path) for name, run in runs.items()}
        if len(set(map(str, values.values()))) > 1:
            yield f"Runs differ in {what}: {_each(values)}."
    sizes = {name: _batch_sizes(run) for name, run in runs.items()}
    if len(set(sizes.values())) > 1:
        yield (
            f"Runs differ in the batches: K = {_each(sizes)}. "
            "Differences then rest on groups of examples that no batch of either straddles."
        )
    weights: dict[str, dict[str, str]] = {}
    for name, run in runs.items():
        for checkpoint in run.manifest["checkpoints"]:
            weights.setdefault(checkpoint["name"], {})[name] = checkpoint["sha256"]
    for checkpoint, hashes in weights.items():
        if len(set(hashes.values())) > 1:
            yield f"{checkpoint} is not the same file in {series(list(hashes))}: the weights differ."
    yield from _other_budgets(runs)


def _each(values: Mapping[str, object]) -> str:
    return ", ".join(f"{value} in {name}" for name, value in values.items())


def _batch_sizes(run: Run) -> str:
    return series(
        [str(k) for k in sorted({row["k"] for row in run.manifest["rows"] if row["k"] is not None})]
    )


def _other_budgets(runs: dict[str, Run]) -> Iterator[str]:
    found = {name: _budgets(run) for name, run in runs.items()}
    for budget in dict.fromkeys(b for budgets in found.values() for b in budgets):
        without = [name for name, budgets in found.items() if budget not in budgets]
        if without and len(without) < len(found):
            words = budget_words(budget)
            yield f"No attack under {words} in {series(without)}; eps and its space are never mixed."


def _budgets(run: Run) -> list[Budget]:
    """The budgets that attacks ran under because somebody asked for them."""
    attacked = dict.fromkeys(line.budget for line in lines_of(run.summary) if line.attack not in NULLS)
    return [budget for budget in attacked if budget in asked_budgets(run.manifest)]
