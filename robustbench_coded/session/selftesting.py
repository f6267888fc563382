"""Each subject is self-tested once, before it is attacked; what came out lies in the run folder."""

import hashlib
import json
from dataclasses import replace

from msgspec import structs

from robustbench_coded.evaluation.execution.own_threads import own_threads
from robustbench_coded.evaluation.execution.selftest_subject import selftest_subject
from robustbench_coded.evaluation.planning.cases import Subject
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.runs.folder import RunFolder
from robustbench_coded.session.listener import Listener

VERSION = 7  # of the self-tests: another one asks again
_CONTEXT = ("csrobust", "data", "data_sha256", "limit", "seed", "device", "threads")


def with_selftests(prepared: PreparedEvaluation) -> PreparedEvaluation:
    """The same with the id of each subject's self-tests beside its probe, where run.json names it."""
    probes = (
        structs.replace(probe, selftests=_id(prepared, subject))
        for probe, subject in zip(prepared.probes, prepared.subjects, strict=True)
    )
    return replace(prepared, probes=tuple(probes))


def run_selftests(folder: RunFolder, prepared: PreparedEvaluation, listener: Listener) -> None:
    """Tests the subjects whose results the folder does not hold yet, and commits one after the other."""
    named = ((subject, _id(prepared, subject)) for subject in prepared.subjects)
    open_ones = [(subject, name) for subject, name in named if name and not folder.has_selftests(name)]
    if not open_ones:
        return
    with own_threads(prepared.context):
        for subject, name in open_ones:
            listener.preparing(f"self-testing attacks on {subject.label} ({subject.checkpoint})")
            found = selftest_subject(prepared.context, subject, _eps(prepared))
            folder.commit_selftests(name, {**subject.key._asdict(), **found})


def _eps(prepared: PreparedEvaluation) -> float:
    """The middle one of the radii: at the largest of a security curve no gradient is worth much."""
    asked = sorted(eps for eps in prepared.eps if eps > 0)
    return asked[(len(asked) - 1) // 2] if asked else 0.0


def _id(prepared: PreparedEvaluation, subject: Subject) -> str | None:
    """A hash of what decides the results; None where nothing may be moved and so nothing is tested."""
    if _eps(prepared) == 0:
        return None
    config = prepared.setup.config
    data = {
        "version": VERSION,
        "context": {name: prepared.fixed[name] for name in _CONTEXT},
        "checkpoint": prepared.fixed["checkpoints"][subject.checkpoint],
        "spec": subject.spec,
        "k": subject.k,
        "budget": [config.norm, _eps(prepared), config.eps_space],
    }
    return hashlib.blake2b(json.dumps(data, sort_keys=True).encode(), digest_size=10).hexdigest()
