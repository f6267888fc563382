"""Each subject is self-tested once, on the object that is scored, before it is attacked; what came out
lies in the run folder.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from math import prod
from typing import Any

import torch
from msgspec import structs
from torch import Tensor

from attacks import losses, perturbation_budget
from attacks.gradients import raise_machine_fault
from robustbench_coded.defences.protocol import Defence
from robustbench_coded.defences.sampling import SamplingModule, UsedSeed
from robustbench_coded.evaluation.execution import in_memory, score, target, worker_context
from robustbench_coded.evaluation.options.config import default_eps
from robustbench_coded.evaluation.planning import cases, streams
from robustbench_coded.evaluation.selftests.gradients import MODES_ROUNDING
from robustbench_coded.evaluation.selftests.other_generators import Batches, Draws
from robustbench_coded.evaluation.selftests.other_images import OTHER_IMAGES, blends, other_images
from robustbench_coded.evaluation.selftests.run_all import EXAMPLES, FEWEST, Networks, run_all
from robustbench_coded.evaluation.selftests.scene import Scene, SelfTest, judged
from robustbench_coded.evaluation.session.listener import Listener
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.models.pixel_model import images_at_once
from robustbench_coded.models.prepare import tf32
from robustbench_coded.models.registry import MODELS, split_variant
from robustbench_coded.runs.folder import RunFolder
from robustbench_coded.schema.case import Perturbation
from robustbench_coded.schema.words import STANDARD
from robustbench_coded.user_code import TimeLimitExceeded, time_limit

ASKED_ALIKE = "answers when scored"


def asked_alike(scene: Scene, defence: Defence, seed: int, batches: list[int]) -> SelfTest:
    """Asks about one random corner of the ball as attacks do, and as scoring does, under one draw.

    Args:
        defence: the object that the scene's target asks.
        seed, batches: by which the scene names its draws.
    """
    x = scene.budget.around(scene.x).random_sign(scene.generators)
    asked = losses.margin(scene.differentiable(x, scene.draws(0))[1].detach().float(), scene.y)
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
    largest = max(float(asked.abs().max()), 1e-30)
    scored = torch.from_numpy(margins[0]).to(asked).nan_to_num(neginf=0.0)  # no answer, as in the scene
    moved = float((scored - asked).abs().max()) / largest
    finding = f"Margins of perturbed inputs move by at most {moved:.1e} of the largest one when scored."
    return judged(ASKED_ALIKE, moved <= MODES_ROUNDING, finding, moved=moved)


UNITS = 5  # times what --unit-timeout gives a unit of work, where that is less
FOR_A_BLEND = 4  # images for each mean of two of a class: some find no second one
SECONDS = 1800.0  # a subject that takes longer for some ninety forwards of EXAMPLES inputs hangs


@tf32(False)
def selftest_subject(
    context: worker_context.WorkerContext,
    subject: cases.ProbedSubject,
    perturbation: Perturbation,
    unit_timeout: float | None,
) -> dict[str, Any]:
    """Runs them on the first examples; the result is JSON data.

    Batches are as large as the subject's, but no larger than EXAMPLES: what is tested does not depend on it,
    and its cost does.

    Args:
        unit_timeout: seconds that a unit may take; None for no limit of the user's.
    """
    scene = _scene(context, subject, perturbation)
    checkpoint = context.model(subject.checkpoint)
    # Where there is no checkpoint, what stands for it is the defence itself.
    compared = in_memory.is_user_defence(subject.spec) and not isinstance(checkpoint.network, in_memory.Alone)
    networks = Networks(context.defence(subject).base, checkpoint) if compared else None
    seconds = SECONDS if unit_timeout is None else min(SECONDS, UNITS * unit_timeout)
    try:
        with time_limit(seconds):
            plugin = in_memory.is_user_defence(subject.spec)
            drawn = _draws(context, subject, scene) if plugin else None
            batches = _batches(context, subject) if plugin else None
            seed, defence = context.setup.conditions.seed, context.defence(subject)
            own = [-2 - group for group in range(len(scene.x))]
            results = run_all(scene, networks, drawn, batches)
            alike = _tried(ASKED_ALIKE, "when it is scored", lambda: asked_alike(scene, defence, seed, own))
            results = (*results, alike)
            if plugin:
                network = checkpoint if compared else None
                others = (_elsewhere(context, scene), _blended(context, scene))
                found = _tried(
                    OTHER_IMAGES,
                    "at other images",
                    lambda: other_images(scene, others[0], network, others[1]),
                )
                for asked in others:
                    if asked is not None:
                        scene.forwards += asked.forwards
                        scene.backwards += asked.backwards
                results = (*results, found)
    except TimeLimitExceeded:
        results = (judged("attack", False, f"A short attack on it took longer than {seconds:g} s."),)
    return {
        "eps": perturbation.eps,
        "examples": scene.examples,
        "forwards": scene.forwards,
        "backwards": scene.backwards,
        "tests": [asdict(result) for result in results],
    }


def _tried(name: str, when: str, test: Callable[[], SelfTest]) -> SelfTest:
    """A self-test; failed where the defence raises an exception."""
    try:
        return test()
    except Exception as error:  # a user defence can fail in any way
        raise_machine_fault(error)
        return judged(name, False, f"The defence fails {when}: {type(error).__name__}.")


def _elsewhere(context: worker_context.WorkerContext, scene: Scene) -> Scene | None:
    """The same scene with images that are not evaluated."""
    found = context.elsewhere(scene.examples)
    if found is None or found[0].shape[1:] != scene.x.shape[2:]:
        return None
    x, y = found
    return replace(scene, x=x.view_as(scene.x), y=y.view_as(scene.y))


def _blended(context: worker_context.WorkerContext, scene: Scene) -> Scene | None:
    """The same scene with means of two images; None where too few images have another of their class.

    None, too, where pixels have no levels: there a mean lies between the values that the data take, and a
    defence that rounds to those is as robust as it says on everything but means.
    """
    if context.data.scale <= 1:
        return None
    count = FOR_A_BLEND * scene.examples
    found = context.elsewhere(count)
    if found is None:  # means of evaluated images are not evaluated either
        found = context.data.batch(range(min(count, len(context.data))))
    x, y = blends(found[0], found[1], scene.examples, context.data.scale)
    if len(x) < scene.examples or x.shape[1:] != scene.x.shape[2:]:
        return None
    x, y = x.to(scene.x), y.to(scene.y)
    return replace(scene, x=x.view_as(scene.x), y=y.view_as(scene.y))


def _draws(context: worker_context.WorkerContext, subject: cases.ProbedSubject, scene: Scene) -> Draws:
    """Of the batches that are scored: a defence may know their seeds. Drawing once more changes nothing."""
    defence, seed = context.defence(subject), context.setup.conditions.seed
    groups, k = scene.y.shape

    def used(generators: Sequence[torch.Generator]) -> list[Any]:
        drawn = [defence.sample(generator, k) for generator in generators]
        return [UsedSeed(draw) for draw in drawn] if isinstance(defence, SamplingModule) else drawn

    return Draws(
        lambda index: target.draws_of(defence, k, seed, range(groups), "scoring", index),
        used,
        hashlib.blake2b(scene.x.cpu().numpy().tobytes(), digest_size=8).hexdigest(),
    )


def _batches(context: worker_context.WorkerContext, subject: cases.ProbedSubject) -> Batches:
    """Of any size, under draws of a batch that is evaluated."""
    defence, seed = context.defence(subject), context.setup.conditions.seed

    def answers(x: Tensor, index: int) -> Tensor:
        with torch.no_grad():
            draw = target.draws_of(defence, len(x), seed, [0], "scoring", index)[0]
            return defence.logits(x.clone(), draw).detach().clone()

    return Batches(subject.k, answers)


def _scene(
    context: worker_context.WorkerContext, subject: cases.ProbedSubject, perturbation: Perturbation
) -> Scene:
    seed, defence = context.setup.conditions.seed, context.defence(subject)
    at_once = images_at_once(prod(context.data.image_shape[1:]), EXAMPLES)
    most = min(EXAMPLES, max(FEWEST, at_once))
    k = min(subject.k, most) if subject.batch_dependent else min(most, len(context.data))
    groups = max(1, most // k) if subject.batch_dependent else 1
    x, y = context.data.batch([i % len(context.data) for i in range(groups * k)])
    norm, eps, space = perturbation.norm, perturbation.eps, perturbation.eps_space
    normalized = space == "normalized"
    deviation = context.checkpoint(subject.checkpoint).deviation if normalized else None
    budget = perturbation_budget.PerturbationBudget(norm, eps, space, deviation)  # type: ignore[arg-type]
    if norm == "l0":  # answers and gradients are looked at on small moves, of which it has none
        size = default_eps("linf", context.setup.data, tuple(x.shape[1:]))
        budget = perturbation_budget.PerturbationBudget("linf", size)
    # Batches of their own, far from those that are evaluated: no draw of theirs is asked about here.
    batches = [-2 - group for group in range(groups)]
    return Scene(
        target.Target(defence, k, seed, batches),
        x.view(groups, k, *x.shape[1:]).to(context.device),
        y.view(groups, k).to(context.device),
        budget,
        subject.batch_dependent,
        [streams.stream(seed, batch, "selftest") for batch in batches],
    )


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
    with worker_context.own_threads(prepared.context):
        for subject, name in open_ones:
            listener.preparing(f"self-testing attacks on {subject.label} ({subject.checkpoint})")
            found = selftest_subject(
                prepared.context, subject, _perturbation(prepared), prepared.config.unit_timeout
            )
            folder.commit_selftests(name, {**subject.subject.as_columns(), **found})


def _perturbation(prepared: PreparedEvaluation) -> Perturbation:
    """At the middle one of the radii: at the largest of a security curve no gradient is worth much."""
    requested = prepared.requested.perturbations
    larger = sorted((p for p in requested if p.eps > 0), key=lambda p: p.eps)
    return larger[(len(larger) - 1) // 2] if larger else structs.replace(requested[0], eps=0.0)


def _id(prepared: PreparedEvaluation, subject: cases.ProbedSubject) -> str | None:
    """A hash of what decides the results; None where nothing is tested: nothing may be moved, or it is a
    network of ours that hides no gradient, in our own code.
    """
    perturbation = _perturbation(prepared)
    checkpoint = prepared.context.checkpoint(subject.checkpoint)
    ours = subject.spec == STANDARD and checkpoint.path and split_variant(checkpoint.network)[0] in MODELS
    if perturbation.eps == 0 or (ours and not subject.hides_gradient):
        return None
    data = {
        "version": VERSION,
        "context": {name: prepared.fixed[name] for name in _CONTEXT},
        "checkpoint": prepared.fixed["checkpoints"][subject.checkpoint],
        "spec": subject.spec,
        "k": subject.k,
        "perturbation": list(perturbation.as_columns().values()),
    }
    return hashlib.blake2b(json.dumps(data, sort_keys=True).encode(), digest_size=10).hexdigest()
