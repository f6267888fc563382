"""Certified lower bounds of an evaluation's subjects, stored in its run folder."""

import hashlib
import json

from msgspec import structs

from robustbench_coded.evaluation.planning.cases import ProbedSubject, code_behind
from robustbench_coded.evaluation.session.listener import Listener
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.extensions import load
from robustbench_coded.runs.certificates import Stored, read_stored, write_certificates
from robustbench_coded.runs.folder import RunFolder
from robustbench_coded.schema.case import Perturbation

VERSION_OF_BOUNDS = 1  # another one computes them again


def certify(folder: RunFolder, prepared: PreparedEvaluation, listener: Listener) -> None:
    """Certifies every subject at every radius that the folder has no certificate for, and stores it.

    The files of a folder are of its own data, seed and weights: nothing else may be evaluated into it.
    """
    for subject in prepared.subjects:
        for perturbation in prepared.requested.perturbations:
            name, settings = _name(subject, perturbation), _settings(prepared, subject)
            stored = read_stored(folder.path, name)
            if stored is not None and stored.settings == settings:
                continue
            where = f"{subject.label} on {subject.checkpoint} at eps {perturbation.eps:g}"
            listener.preparing(f"certifying {where}")
            certificates = load("bounds", "certify")(prepared.context, subject, perturbation)
            write_certificates(folder.path, name, Stored(settings=settings, certificates=tuple(certificates)))


def _name(subject: ProbedSubject, perturbation: Perturbation) -> str:
    """20 hexadecimal digits."""
    data = [*structs.asdict(subject.subject).values(), *structs.asdict(perturbation).values()]
    return hashlib.blake2b(json.dumps(data).encode(), digest_size=10).hexdigest()


def _settings(prepared: PreparedEvaluation, subject: ProbedSubject) -> str:
    """A digest of what else decides the bounds."""
    code = code_behind(prepared.fixed, subject.checkpoint, subject.spec)
    data = [VERSION_OF_BOUNDS, subject.spec, prepared.setup.conditions.known_draws, *code.values()]
    return hashlib.blake2b(json.dumps(data).encode(), digest_size=10).hexdigest()
