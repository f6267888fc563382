"""ART's attacks that call ours, for `suites.py`: their classes, whose `generate` is replaced.

Their checks of arguments and of estimators stay theirs, so the suite leaves out those tests. Their test
files import TensorFlow and Keras, which modules that do nothing stand for.
"""

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from math import inf
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers.suite_shims import ORDERS, ours, predicted
from robustbench_coded.data.registry import load_data

# Their class: ours, the norm where theirs has but one, and the radius where ours needs one.
ATTACKS: dict[str, tuple[str, str, float]] = {
    "FastGradientMethod": ("fgsm", "", 0),
    "BasicIterativeMethod": ("pgd-{steps}", "", 0),
    "ProjectedGradientDescent": ("pgd-{steps}", "", 0),
    "ProjectedGradientDescentNumpy": ("pgd-{steps}", "", 0),
    "ProjectedGradientDescentPyTorch": ("pgd-{steps}", "", 0),
    "MomentumIterativeMethod": ("pgd-{steps}+momentum=1", "", 0),
    "AutoProjectedGradientDescent": ("apgd-ce-{steps}", "", 0),
    "AutoConjugateGradient": ("apgd-ce-{steps}", "", 0),
    "AutoAttack": ("aa-20", "", 0),
    "SquareAttack": ("square-{steps}", "", 0),
    "HopSkipJump": ("hopskipjump-400", "", inf),
    "SignOPTAttack": ("rays-400", "linf", 1.0),
    "DeepFool": ("fab-{steps}", "l2", inf),
    "NewtonFool": ("fab-{steps}", "l2", inf),
    "ElasticNet": ("fab-{steps}", "l1", inf),
    "PixelAttack": ("sparse-rs-{steps}", "l0", 50),
    "SaliencyMapMethod": ("sigma-zero-50", "l0", inf),
    "ZooAttack": ("square-{steps}", "l2", 5.0),
    "SimBA": ("square-200", "linf", 0.3),
}
# Theirs leave what is answered wrongly as it was; theirs is towards the classes that it is given.
UNTOUCHED, TOWARDS = ("AutoAttack", "SquareAttack"), ("SaliencyMapMethod",)
FEWEST_STEPS = 10  # of minimal-norm attacks: their binary searches multiply what they are told


def install(folder: Path, shared: Path) -> None:
    """``shared`` has the test images of MNIST."""
    sys.meta_path.insert(0, _Nothing())
    sys.path.insert(0, str(folder))
    vars(np)["Inf"] = np.inf  # which their tests know from before numpy 2
    import art.utils
    from art.attacks import evasion
    from art.attacks.evasion import projected_gradient_descent as pgd

    art.utils.load_mnist = lambda raw=False: _mnist(shared)
    for name, (text, norm, eps) in ATTACKS.items():
        made = getattr(evasion, name, None) or getattr(pgd, name, None)
        if made is not None:
            made.generate = _generating(text, norm, eps)


def _generating(text: str, fixed: str, radius: float) -> Any:
    def generate(self: Any, x: np.ndarray, y: Any = None, mask: Any = None, **_: Any) -> np.ndarray:
        clean = torch.as_tensor(np.asarray(x), dtype=torch.float32)
        labels = None if y is None else torch.as_tensor(np.asarray(y))
        if mask is None:
            return _perturbed(self, clean, labels, None, text, fixed, radius).numpy()
        masks, found = torch.as_tensor(mask).to(clean).expand_as(clean), []
        for i in range(len(clean)):
            label = None if labels is None else labels[i : i + 1]
            found.append(_perturbed(self, clean[i : i + 1], label, masks[i : i + 1], text, fixed, radius))
        return torch.cat(found).numpy()

    return generate


def _perturbed(
    theirs: Any, clean: Tensor, y: Tensor | None, mask: Tensor | None, text: str, norm: str, radius: float
) -> Tensor:
    """Our attack in place of theirs; where ``mask`` [1, ...] is 0, one image stays as it is."""
    estimator, kind = theirs.estimator, type(theirs).__name__

    def answers(z: Tensor) -> Tensor:
        z = z if mask is None else clean + mask * (z - clean)
        # Their preprocessing has no gradient, for which theirs too takes the identity.
        there = estimator._apply_preprocessing(z.detach().numpy(), y=None, fit=False)[0]
        logits: Tensor = estimator.model(z + (torch.as_tensor(there).to(z) - z).detach().to(z))
        return logits

    classes = y if y is None or y.ndim == 1 else y.argmax(1)
    targeted = classes is not None and (kind in TOWARDS or bool(np.any(theirs.targeted)))
    true = predicted(answers, clean) if targeted or classes is None else classes
    minimal = radius == inf or bool(getattr(theirs, "minimal", False))
    steps = max(FEWEST_STEPS if minimal else 1, int(getattr(theirs, "max_iter", 1)))
    name = "fab-10" if minimal and text == "fgsm" else text.format(steps=steps)
    norm = norm or ORDERS[float(theirs.norm)]
    eps = clean[0].numel() if (norm, radius) == ("l0", inf) else radius or float(np.max(theirs.eps))
    box = _box(estimator.clip_values, clean, eps)
    width = box[1] - box[0]
    step = {"step_size": float(np.max(theirs.eps_step)) / width} if text.startswith("pgd") else {}
    found = ours(answers, clean, true, name, eps, norm, classes if targeted else None, box, **step)
    if kind in UNTOUCHED:
        right = predicted(answers, clean) == true
        found = torch.where(right.view(-1, *[1] * (clean.ndim - 1)), found, clean)
    return found if mask is None else clean + mask * (found - clean)


def _box(values: Any, x: Tensor, eps: float) -> tuple[float, float]:
    if values is not None:
        return float(np.min(values[0])), float(np.max(values[1]))
    room = 4 * min(eps, 1.0)
    return float(x.min()) - room, float(x.max()) + room


def _mnist(shared: Path) -> Any:
    """Test images of MNIST, as theirs are laid out; the last of them for what they take to train."""
    data = load_data("mnist", data_dir=shared / "data")
    x, y = data.batch(range(len(data)))
    images = x.permute(0, 2, 3, 1).numpy().astype(np.float32)
    classes = np.eye(10, dtype=np.float32)[y.numpy()]
    return (images[5000:], classes[5000:]), (images[:5000], classes[:5000]), 0.0, 1.0


class _Nothing(MetaPathFinder, Loader):
    """Modules of TensorFlow and Keras in which every name is a mock."""

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        wanted = name.partition(".")[0] in ("tensorflow", "keras")
        return ModuleSpec(name, self, is_package=True) if wanted else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        made = ModuleType(spec.name)
        made.__getattr__ = lambda name: MagicMock() if not name.startswith("__") else _raise(name)  # type: ignore[method-assign]
        vars(made)["__version__"] = "2.0"
        return made

    def exec_module(self, module: ModuleType) -> None:
        pass


def _raise(name: str) -> Any:
    raise AttributeError(name)
