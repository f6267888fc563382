"""What checklists of artefacts and reproducibility ask about a run, answered from its files.

The questions are those that the paper checklist of NeurIPS and the artefact appendices of USENIX and ACM
share. What no file of a run can say, the authors are asked to add.
"""

import tomllib
from collections import Counter
from pathlib import Path

from robustbench_coded.judge.run import Run
from robustbench_coded.models.shipped import shipped
from robustbench_coded.reports.render.markdown import plain_markdown
from robustbench_coded.reports.render.sections import Commands, Facts, Section
from robustbench_coded.reports.run.methodology import Fact, limits_of, methods_of
from robustbench_coded.reports.text.escape import shell
from robustbench_coded.reports.text.formatting import counted, duration, series
from robustbench_coded.runs.atomic import write_text
from robustbench_coded.runs.log import read_log
from robustbench_coded.schema.manifest import CheckpointFacts

ADD = "not recorded, please add it"


def checklist(run: Run, out: Path) -> list[Path]:
    """Writes ``checklist.md``: claims, limits, data, networks, seeds, intervals, compute and commands."""
    methods, manifest = {fact.about: fact.text for fact in methods_of(run)}, run.manifest
    facts = [
        *(Fact("Claim", f"{judgement}.") for judgement in run.judgements),
        *(Fact("Limitation", limit) for limit in limits_of(run)),
        Fact("Data", f"{methods['Data']} Licence: {ADD}."),
        *(Fact("Network", _network(facts)) for facts in manifest.checkpoints),
        Fact("Seeds", methods["Draws"]),
        Fact("Intervals", f"{_kinds(run)} {methods['Intervals']}"),
        Fact("Compute", _compute(run)),
        Fact("Software", methods["Versions"]),
    ]
    commands = dict.fromkeys(shell(list(invocation.command)) for invocation in manifest.invocations)
    section = Section("checklist", "Checklist", (Facts(tuple(facts)), Commands(tuple(commands))))
    file = out / "checklist.md"
    write_text(file, plain_markdown(f"Reproducibility of {run.name}", (), (section,)))
    return [file]


def _network(facts: CheckpointFacts) -> str:
    """File, architecture, training and licence of a checkpoint."""
    homes = {path.parent / "manifest.toml" for path in shipped().values()}
    entries = [entry for home in homes for entry in tomllib.loads(home.read_text()).values()]
    ours = any(facts.sha256 == entry["sha256"] for entry in entries)
    licence = "that of csrobust (MIT)" if ours else facts.metadata.get("license", ADD)
    recipe, seed = (facts.metadata.get(key, "not recorded") for key in ("recipe", "seed"))
    return (
        f"{facts.name}: {facts.path}, {facts.arch}, sha256 {facts.sha256}; training recipe {recipe}, seed "
        f"{seed}; licence: {licence}."
    )


def _kinds(run: Run) -> str:
    """How many accuracies of verdicts have an interval of which kind."""
    kinds = Counter(
        judgement.verdict.accuracy.kind for judgement in run.judgements if judgement.verdict.accuracy
    )
    counts = [f"{count} {kind.phrase if kind else 'without one'}" for kind, count in kinds.items()]
    return f"Of {counted(len(run.judgements), 'claim')}: {series(counts)}."


def _compute(run: Run) -> str:
    """Time of all units one after the other, and where they ran."""
    seconds = sum(unit.timing.get("seconds", 0) for unit in read_log(run.path).done.values())
    machines = (invocation.machine for invocation in run.manifest.invocations)
    places = dict.fromkeys(f"{at.gpu or at.device} on {at.system} {at.processor}" for at in machines)
    taken = f"{duration(seconds)} if nothing runs in parallel" if seconds else f"time {ADD}"
    return f"{taken}; on {series(list(places))}."
