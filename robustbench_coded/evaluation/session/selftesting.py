"""Each subject is self-tested once, on the object that is scored, when attacks have run and before checks are
read; what came out lies in the run folder.
"""

import hashlib
import json
import math
from dataclasses import asdict, replace
from typing import Any, cast

import torch
from msgspec import structs

from attacks import losses, perturbation_budget
from robustbench_coded.defences.protocol import Defence
from robustbench_coded.evaluation.execution import score, target, worker_context
from robustbench_coded.evaluation.options.config import default_eps
from robustbench_coded.evaluation.planning import cases, streams
from robustbench_coded.evaluation.selftests import Scene, SelfTest, judged, run_all, tried
from robustbench_coded.evaluation.session.listener import Listener
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.models.pixel_model import images_at_once
from robustbench_coded.models.prepare import tf32
from robustbench_coded.runs.folder import RunFolder, read_selftests
from robustbench_coded.runs.log import Tested
from robustbench_coded.schema.case import Perturbation
from robustbench_coded.schema.words import STANDARD
from robustbench_coded.user_code import TimeLimitExceeded, time_limit

ANSWERS_ALIKE = "answers when scored"
ALIKE = 1e-3  # of the largest margin: other kernels may serve other modes


def answers_alike(scene: Scene, defence: Defence, seed: int, batches: list[int]) -> SelfTest:
    """Asks about one random corner of the ball as attacks do, and as scoring does, under one draw.

    Args:
        defence: the object that the scene's target asks.
        seed, batches: by which the scene names its draws.
    """
    x = scene.budget.around(scene.x).random_sign(scene.generators)
    reference = losses.margin(scene.differentiable(x, scene.draws(0))[1].detach().float(), scene.y)
    _, margins = score.predictions(
        defence,
        x,
        scene.y,
        seed=seed,
        batches=batches,
        purpose="attack",
        draws=[0],
        group_images=scene.examples,
    )
    largest = max(float(reference.abs().max()), 1e-30)
    scored = torch.from_numpy(margins[0]).to(reference).nan_to_num(neginf=0.0)  # no answer, as in the scene
    moved = float((scored - reference).abs().max()) / largest
    finding = f"Margins of perturbed inputs move by at most {moved:.1e} of the largest one when scored."
    return judged(ANSWERS_ALIKE, moved <= ALIKE, finding, moved=moved)


EXAMPLES = 32  # inputs of the scene: enough to distinguish shares of a quarter from those of honest networks
FEWEST = 16  # of large images, each of which costs some seventy forwards: one of them is below every share
SECONDS = 1800.0  # a subject that takes longer for some seventy forwards of EXAMPLES inputs hangs


@tf32(False)
def selftest_subject(
    context: worker_context.WorkerContext,
    subject: cases.ProbedSubject,
    perturbation: Perturbation,
) -> dict[str, Any]:
    """Runs them on the first examples; the result is JSON data.

    Batches are as large as the subject's, but no larger than EXAMPLES: what is tested does not depend on it,
    and its cost does.
    """
    scene = _scene(context, subject, perturbation)
    seed, defence = context.setup.options.seed, context.defence(subject)
    batches = [-2 - group for group in range(len(scene.x))]
    try:
        with time_limit(SECONDS):
            results = run_all(scene)
            results += tried(
                ANSWERS_ALIKE,
                "The defence fails when it is scored",
                lambda: (answers_alike(scene, defence, seed, batches),),
            )
    except TimeLimitExceeded:
        results = (judged("attack", False, f"A short attack on it took longer than {SECONDS:g} s."),)
    return {
        "eps": perturbation.eps,
        "examples": scene.examples,
        "forwards": scene.forwards,
        "backwards": scene.backwards,
        "tests": [asdict(result) for result in results],
    }


def _scene(
    context: worker_context.WorkerContext,
    subject: cases.ProbedSubject,
    perturbation: Perturbation,
) -> Scene:
    """The first examples, in batches no larger than the subject's."""
    seed, defence = context.setup.options.seed, context.defence(subject)
    at_once = images_at_once(math.prod(context.data.image_shape[1:]), EXAMPLES)
    most = min(EXAMPLES, max(FEWEST, at_once))
    k = min(subject.k, most) if subject.batch_dependent else min(most, len(context.data))
    groups = max(1, most // k) if subject.batch_dependent else 1
    x, y = context.data.batch([i % len(context.data) for i in range(groups * k)])
    norm, eps, space = perturbation.norm, perturbation.eps, perturbation.eps_space
    normalized = space == "normalized"
    deviation = context.checkpoint(subject.checkpoint).deviation if normalized else None
    budget = perturbation_budget.PerturbationBudget(
        norm, eps, cast(perturbation_budget.EpsSpace, space), deviation
    )
    if norm != "linf":  # answers and gradients are looked at on small moves of every pixel
        size = default_eps("linf", context.setup.data, tuple(x.shape[1:]))
        budget = perturbation_budget.PerturbationBudget("linf", size)
    # Batches of their own, far from those that are evaluated, whose draws are not used here.
    batches = [-2 - group for group in range(groups)]
    return Scene(
        target.Target(defence, k, seed, batches),
        x.view(groups, k, *x.shape[1:]).to(context.device),
        y.view(groups, k).to(context.device),
        budget,
        subject.batch_dependent,
        [streams.stream(seed, batch, "selftest") for batch in batches],
    )


VERSION = 10  # of the self-tests: another version repeats them
_CONTEXT = ("csrobust", "data", "data_sha256", "limit", "seed", "device", "threads")


def with_selftests(prepared: PreparedEvaluation) -> PreparedEvaluation:
    """The same with the id of each subject's self-tests beside its probe, where run.json names it: a hash of
    what decides the results. None where nothing is tested: nothing may be moved, or it is a network of ours
    that hides no gradient, in our own code.
    """
    perturbation, probes = _perturbation(prepared), []
    for probe, subject in zip(prepared.probes, prepared.subjects, strict=True):
        ours = subject.spec == STANDARD and prepared.context.checkpoint(subject.checkpoint).ours
        if perturbation.eps == 0 or (ours and not subject.hides_gradient):
            probes.append(structs.replace(probe, selftests=None))
            continue
        data = {
            "version": VERSION,
            "context": {name: prepared.fixed[name] for name in _CONTEXT},
            "checkpoint": prepared.fixed["checkpoints"][subject.checkpoint],
            "spec": subject.spec,
            "k": subject.k,
            "perturbation": list(structs.asdict(perturbation).values()),
            **cases.code_behind(prepared.fixed, subject.checkpoint, subject.spec),
        }
        digest = hashlib.blake2b(json.dumps(data, sort_keys=True).encode(), digest_size=10)
        probes.append(structs.replace(probe, selftests=digest.hexdigest()))
    return replace(prepared, probes=tuple(probes))


def untested(folder: RunFolder, prepared: PreparedEvaluation) -> list[tuple[cases.ProbedSubject, str]]:
    """The subjects whose results the folder does not hold yet, with the ids of their self-tests.

    Args:
        prepared: with the ids of the self-tests.
    """
    named = zip(prepared.subjects, (probe.selftests for probe in prepared.probes), strict=True)
    stored = read_selftests(folder.path)
    return [(subject, name) for subject, name in named if name and name not in stored]


def run_selftests(folder: RunFolder, prepared: PreparedEvaluation, listener: Listener) -> None:
    """Tests the subjects whose results the folder does not hold yet, and commits one after the other.

    Args:
        prepared: with the ids of the self-tests.

    Raises:
        TimeIsUp: at the run's deadline.
    """
    perturbation = _perturbation(prepared)
    with worker_context.own_threads(prepared.context):
        for subject, name in untested(folder, prepared):
            listener.preparing(f"self-testing attacks on {subject.label} ({subject.checkpoint})")
            results = selftest_subject(prepared.context, subject, perturbation)
            folder.log(Tested(name, {**structs.asdict(subject.subject), **results}))


def _perturbation(prepared: PreparedEvaluation) -> Perturbation:
    """At the middle one of the radii: at the largest of a security curve no gradient is worth much."""
    requested = prepared.perturbations
    larger = sorted((p for p in requested if p.eps > 0), key=lambda p: p.eps)
    return larger[(len(larger) - 1) // 2] if larger else structs.replace(requested[0], eps=0.0)
