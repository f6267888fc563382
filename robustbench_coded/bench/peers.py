"""The same attack by other packages, called as their documentation says, on the model as it was loaded."""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from typing import Any

import torch

from attacks.adapters.seeding import seeded_from
from attacks.pgd import default_step_size
from robustbench_coded.bench.scene import EPS, Scene
from robustbench_coded.bench.timing import Contender


def peer_contenders(scene: Scene, reference: str) -> tuple[list[Contender], list[str]]:
    """One contender for each package that is installed, and the names of those that are not.

    All take PGD's steps on every image; pyautoattack has Auto-PGD alone, which asks for one answer more.
    """
    images = scene.steps * scene.k
    made, missing = [], []
    for package, name, more, build in (
        ("torchattacks", f"torchattacks PGD, {scene.steps} steps", 0, _torchattacks),
        ("foolbox", f"foolbox LinfPGD, {scene.steps} steps", 0, _foolbox),
        ("art", f"ART ProjectedGradientDescent, {scene.steps} steps", 0, _art),
        ("pyautoattack", f"pyautoattack APGD-CE, {scene.steps} steps", scene.k, _pyautoattack),
    ):
        if find_spec(package) is None:
            missing.append(package)
            continue
        with _contained():
            attack = build(scene)
        against = None if name == reference else reference
        made.append(Contender(name, images + more, _contained_call(attack), against))
    return made, missing


def _torchattacks(scene: Scene) -> Callable[[], Any]:
    import torchattacks

    attack = torchattacks.PGD(scene.model, eps=EPS, alpha=_step_size(scene), steps=scene.steps)
    attack.set_device(scene.device)
    y = scene.labels(scene.x)
    return lambda: attack(scene.x, y)


def _foolbox(scene: Scene) -> Callable[[], Any]:
    import foolbox

    model = foolbox.PyTorchModel(scene.model, bounds=(0, 1), device=scene.device)
    attack = foolbox.attacks.LinfPGD(abs_stepsize=_step_size(scene), steps=scene.steps, random_start=True)
    criterion = foolbox.criteria.Misclassification(scene.labels(scene.x))
    return lambda: attack.run(model, scene.x, criterion, epsilon=EPS)


def _art(scene: Scene) -> Callable[[], Any]:
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(
        model=scene.model,
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=tuple(scene.x.shape[1:]),
        nb_classes=scene.model.classes,
        clip_values=(0.0, 1.0),
        device_type="gpu" if scene.device.type == "cuda" else "cpu",
    )
    attack = ProjectedGradientDescent(
        classifier,
        eps=EPS,
        eps_step=_step_size(scene),
        max_iter=scene.steps,
        num_random_init=1,
        batch_size=scene.k,
        verbose=False,
    )
    x, y = scene.x.cpu().numpy(), scene.labels(scene.x).cpu().numpy()
    return lambda: attack.generate(x, y)


def _pyautoattack(scene: Scene) -> Callable[[], Any]:
    from pyautoattack import AutoAttack

    suite = AutoAttack(
        scene.model, eps=EPS, version="custom", attacks=["apgd-ce"], seed=0, device=str(scene.device)
    )
    attack, y = suite.apgd, scene.labels(scene.x)
    attack.n_iter = attack.n_iter_orig = scene.steps
    # The package computes these from n_iter once, when it builds the attack.
    attack.n_iter_2, attack.n_iter_min = max(int(0.22 * scene.steps), 1), max(int(0.06 * scene.steps), 1)
    attack.size_decr, attack.n_restarts = max(int(0.03 * scene.steps), 1), 1
    return lambda: attack.perturb(scene.x, y)


def _step_size(scene: Scene) -> float:
    return default_step_size(EPS, scene.steps)


def _contained_call(attack: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> Any:
        with _contained():
            return attack()

    return run


@contextmanager
def _contained() -> Iterator[None]:
    """Peers draw from the process's generators, print and warn."""
    silent = warnings.catch_warnings(action="ignore")
    with seeded_from(torch.Generator().manual_seed(0)), redirect_stdout(io.StringIO()), silent:
        yield
