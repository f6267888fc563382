"""What a reader has to know beside the answer: what is missing, mistaken, hidden, or can be checked."""

from typing import Any

from attacks.hiding_operator import describe
from robustbench_coded.reports.text.escape import shell
from robustbench_coded.reports.text.formatting import counted, subject_text
from robustbench_coded.results.run import Run
from robustbench_coded.schema.evaluated import ProbeRecord
from robustbench_coded.schema.manifest import RunManifest

LEAVES = "numpy"  # as the probe calls it where an answer leaves torch through numpy


def remarks_on(run: Run) -> list[str]:
    """Sentences that stand below the answer."""
    said = [*_mismatches(run.manifest)]
    if not run.manifest.finished:
        said.append("The run was stopped before its end; the same command resumes it.")
    if run.failures:
        said.append(
            f"{counted(len(run.failures), 'unit')} of the run without outcomes, so some rows are incomplete. "
            "Missing outcomes are not counted in any accuracy. The command that planned them computes them; "
            "all commands of this folder stand under 'Run it again'."
        )
    said += hidden_gradients(run.manifest)
    if (run.path / "evidence" / "refute.py").is_file():
        said.append("evidence/refute.py reproduces this with torch and numpy alone.")
    return said


def failures_of(run: Run) -> list[str]:
    """What did not run: one sentence per row and reason."""
    units: dict[tuple, int] = {}
    for failure in run.failures:
        key = failure.key
        units[key, failure.error] = units.get((key, failure.error), 0) + 1
    sentences = []
    for (key, error), count in units.items():
        subject = subject_text(key.subject, with_k=True)
        sentences.append(f"{key.attack} under {key.threat} on {subject}: {counted(count, 'unit')}, {error}")
    return sentences


def commands_of(run: Run) -> list[str]:
    """The commands that made this folder, each once, in their order."""
    return list(dict.fromkeys(shell(list(i.command)) for i in run.manifest.invocations if i.command))


def hidden_gradients(manifest: RunManifest) -> list[str]:
    """Where each defence's gradient is lost, as its probe recorded it."""
    said: dict[str, None] = {}
    for probe in manifest.probes:
        causes = _causes(probe)
        if causes:
            who = f"{probe.defence} on {probe.checkpoint}"
            said[f"{who}: {'; '.join(causes)}. The relaxed- attacks put another gradient there."] = None
    return list(said)


def _causes(probe: ProbeRecord) -> list[str]:
    met = [one for one in probe.hidden_by if _usable(one)]
    names = {one["operator"] for one in met}
    if LEAVES in names:  # an image is detached on its way there
        met = [one for one in met if one["operator"] not in (LEAVES, "detach")]
        return ["its answers leave torch through numpy, where gradients end", *map(describe, met)]
    if not met and probe.figures.get("no_gradient") is True:
        return ["its answers leave torch, through numpy or other code, and have no gradient in the input"]
    return [describe(one) for one in met]


def _usable(met: dict[str, Any]) -> bool:
    scale = met.get("scale")
    return (
        isinstance(met.get("operator"), str)
        and type(met.get("calls")) is int
        and (scale is None or type(scale) in (int, float))
    )


def _mismatches(manifest: RunManifest) -> list[str]:
    """What was evaluated although its network is not what it is taken for, in one sentence a checkpoint."""
    said = []
    for checkpoint in manifest.checkpoints:
        found = checkpoint.recognition.get("contradictions")
        if isinstance(found, list) and found:
            said.append(
                f"{checkpoint.name} is evaluated as stated, and the figures may be those of another network: "
                f"{'; '.join(str(clause) for clause in found)}."
            )
    return said
