"""PGD of other packages as the bench times it: on the workload's batches and with its steps."""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from typing import Any

import torch

from attacks.adapters.third_party import seeded_from
from attacks.pgd import default_step_size
from benchmarks.bench.timing import TimedContender
from benchmarks.bench.workloads import EPS, Workload


def third_party(workload: Workload) -> tuple[list[TimedContender], list[str]]:
    """One contender for each package that is installed, and a sentence on each that is not.

    All take PGD's steps on every image; pyautoattack only has Auto-PGD, which needs one more answer.
    """
    images = workload.steps * workload.k
    made: list[TimedContender] = []
    missing = []
    for package, name, more, build in (
        ("torchattacks", f"torchattacks PGD, {workload.steps} steps", 0, _torchattacks),
        ("foolbox", f"foolbox LinfPGD, {workload.steps} steps", 0, _foolbox),
        ("art", f"ART ProjectedGradientDescent, {workload.steps} steps", 0, _art),
        ("pyautoattack", f"pyautoattack APGD-CE, {workload.steps} steps", workload.k, _pyautoattack),
    ):
        if find_spec(package) is None:
            missing.append(f"{package} is not installed")
            continue
        with _contained():
            attack = build(workload)
        against = made[0].name if made else None
        made.append(TimedContender(name, images + more, _contained_call(attack), against))
    return made, missing


def _torchattacks(workload: Workload) -> Callable[[], Any]:
    import torchattacks

    attack = torchattacks.PGD(workload.model, eps=EPS, alpha=_step_size(workload), steps=workload.steps)
    attack.set_device(workload.device)
    y = workload.labels(workload.x)
    return lambda: attack(workload.x, y)


def _foolbox(workload: Workload) -> Callable[[], Any]:
    import foolbox

    model = foolbox.PyTorchModel(workload.model, bounds=(0, 1), device=workload.device)
    attack = foolbox.attacks.LinfPGD(
        abs_stepsize=_step_size(workload), steps=workload.steps, random_start=True
    )
    criterion = foolbox.criteria.Misclassification(workload.labels(workload.x))
    return lambda: attack.run(model, workload.x, criterion, epsilon=EPS)


def _art(workload: Workload) -> Callable[[], Any]:
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(
        model=workload.model,
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=tuple(workload.x.shape[1:]),
        nb_classes=workload.model.classes,
        clip_values=(0.0, 1.0),
        device_type="gpu" if workload.device.type == "cuda" else "cpu",
    )
    attack = ProjectedGradientDescent(
        classifier,
        eps=EPS,
        eps_step=_step_size(workload),
        max_iter=workload.steps,
        num_random_init=1,
        batch_size=workload.k,
        verbose=False,
    )
    x, y = workload.x.cpu().numpy(), workload.labels(workload.x).cpu().numpy()
    return lambda: attack.generate(x, y)


def _pyautoattack(workload: Workload) -> Callable[[], Any]:
    from pyautoattack import AutoAttack

    suite = AutoAttack(
        workload.model, eps=EPS, version="custom", attacks=["apgd-ce"], seed=0, device=str(workload.device)
    )
    attack, y = suite.apgd, workload.labels(workload.x)
    attack.n_iter = attack.n_iter_orig = workload.steps
    # The package computes these from n_iter once, when it builds the attack.
    attack.n_iter_2, attack.n_iter_min = (
        max(int(0.22 * workload.steps), 1),
        max(int(0.06 * workload.steps), 1),
    )
    attack.size_decr, attack.n_restarts = max(int(0.03 * workload.steps), 1), 1
    return lambda: attack.perturb(workload.x, y)


def _step_size(workload: Workload) -> float:
    return default_step_size(EPS, workload.steps)


def _contained_call(attack: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> Any:
        with _contained():
            return attack()

    return run


@contextmanager
def _contained() -> Iterator[None]:
    """Third-party packages draw from the process's generators, print and warn."""
    silent = warnings.catch_warnings(action="ignore")
    with seeded_from(torch.Generator().manual_seed(0)), redirect_stdout(io.StringIO()), silent:
        yield
