"""The certified bounds of an evaluation (``--certify``), stored in its run folder."""

import hashlib
import json

from robustbench_coded.evaluation.planning.cases import Subject
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.plugins import load
from robustbench_coded.runs.certificates import Stored, read_stored, write_certificates
from robustbench_coded.runs.folder import RunFolder
from robustbench_coded.session.listener import Listener

VERSION_OF_BOUNDS = 1  # another one computes them again


def certify(folder: RunFolder, prepared: PreparedEvaluation, listener: Listener) -> None:
    """Certifies every subject at every radius that the folder has no certificate for, and stores it.

    The files of a folder are of its own data, seed and weights: nothing else may be evaluated into it.
    """
    for subject in prepared.subjects:
        for eps in prepared.eps:
            name, settings = _name(prepared, subject, eps), _settings(prepared, subject)
            stored = read_stored(folder.path, name)
            if stored is not None and stored.settings == settings:
                continue
            listener.preparing(f"certifying {subject.label} on {subject.checkpoint} at eps {eps:g}")
            found = load("bounds", "certify")(prepared.context, subject, eps)
            write_certificates(folder.path, name, Stored(settings=settings, certificates=tuple(found)))


def _name(prepared: PreparedEvaluation, subject: Subject, eps: float) -> str:
    """20 hexadecimal digits for a subject and a budget."""
    config = prepared.config
    data = [*subject.key, config.norm, eps, config.eps_space]
    return hashlib.blake2b(json.dumps(data).encode(), digest_size=10).hexdigest()


def _settings(prepared: PreparedEvaluation, subject: Subject) -> str:
    """What else decides what is found."""
    config = prepared.config
    data = [VERSION_OF_BOUNDS, subject.spec, min(config.draws, config.aware_attacks)]
    return hashlib.blake2b(json.dumps(data).encode(), digest_size=10).hexdigest()
