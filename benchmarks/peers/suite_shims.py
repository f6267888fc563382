"""Names of other libraries' attacks that call ours, for `suites.py`.

A minimal-norm attack of theirs is one of ours in the same norm, at the same number of steps; one that takes
a radius is ours of the same kind. What ours has no kind of is skipped.
"""

import sys
from collections.abc import Callable
from math import inf
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from robustbench_coded import attack

ORDERS = {1: "l1", 2: "l2", 0: "l0", inf: "linf"}
STEPS = ("steps", "num_steps", "n_iter", "iter", "max_iterations", "nb_iter", "num_iterations")


def ours(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    name: str,
    eps: float,
    norm: str,
    target: Tensor | None = None,
    box: tuple[float, float] = (0.0, 1.0),
    **options: Any,
) -> Tensor:
    """Our attack on inputs of any shape [B, ...] in any box, in its units; ``y`` true classes [B]."""
    low, width = box[0], box[1] - box[0]
    scale = 1 if norm == "l0" else width
    shape = x.shape
    flat = shape if x.ndim == 4 and shape[1] in (1, 3) else (len(x), 1, 1, -1)

    def answers(z: Tensor) -> Tensor:
        return model((z * width + low).view(len(z), *shape[1:]))

    inside = ((x - low) / width).clamp(0, 1).view(flat)
    largest = {"linf": 1.0, "l2": inside[0].numel() ** 0.5, "l1": inside[0].numel()}.get(norm, eps)
    found = attack(
        answers, inside, y, name, min(eps / scale, largest), norm=norm, seed=0, target=target, **options
    )
    return (found * width + low).view(shape)


def steps_of(options: dict[str, Any], default: int) -> int:
    return int(next((options[name] for name in STEPS if options.get(name)), default))


def predicted(model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x).argmax(1)


def fake_module(name: str, **names: Any) -> ModuleType:
    made = sys.modules.setdefault(name, ModuleType(name))
    vars(made).update(names)
    made.__path__ = []
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(fake_module(parent), child, made)
    return made


def adversarial_library(folder: Path) -> None:
    def minimal(name: str, order: float | None = None) -> Callable[..., Tensor]:
        def run(
            model: Any,
            inputs: Tensor,
            labels: Tensor,
            *,
            targeted: bool = False,
            norm: float = 2,
            **options: Any,
        ) -> Tensor:
            kind = ORDERS[options.get("p", norm) if order is None else order]
            target, true = (labels, predicted(model, inputs)) if targeted else (None, labels)
            steps = steps_of(options, 50)
            return ours(model, inputs, true, f"{name}-{steps}", inf, kind, target)

        return run

    def within(name: str, order: float | None = None) -> Callable[..., Tensor]:
        def run(
            model: Any,
            inputs: Tensor,
            labels: Tensor,
            *,
            targeted: bool = False,
            norm: float = inf,
            **options: Any,
        ) -> Tensor:
            target, true = (labels, predicted(model, inputs)) if targeted else (None, labels)
            eps = float(options.get("eps", options.get("ε", 0)))
            steps = steps_of(options, 10)
            return ours(model, inputs, true, f"{name}-{steps}", eps, ORDERS[order or norm], target)

        return run

    # Their attacks that ours has not by name are fab, the nearest of their kind.
    fab, nearest_linf = minimal("fab"), minimal("fab", inf)
    attacks = fake_module(
        "adv_lib.attacks",
        **dict.fromkeys(("ddn", "alma", "df", "carlini_wagner_l2", "tr", "fab", "sdf"), fab),
        fmn=minimal("fmn"),
        pdgd=minimal("pdpgd"),
        pdpgd=minimal("pdpgd"),
        carlini_wagner_linf=nearest_linf,
        apgd=within("apgd-ce"),
        pgd_linf=within("pgd", inf),
    )
    fake_module("adv_lib", attacks=attacks)


FOOLBOX: dict[str, tuple[str, str, int]] = {
    "DDNAttack": ("fab", "l2", 50),
    "L2CarliniWagnerAttack": ("fab", "l2", 50),
    "EADAttack": ("fab", "l1", 50),
    "L2DeepFoolAttack": ("fab", "l2", 50),
    "LinfDeepFoolAttack": ("fab", "linf", 50),
    "NewtonFoolAttack": ("fab", "l2", 50),
    "L2FMNAttack": ("fmn", "l2", 50),
    "L1FMNAttack": ("fmn", "l1", 50),
    "LInfFMNAttack": ("fmn", "linf", 50),
    "L0FMNAttack": ("fmn", "l0", 50),
    "PGD": ("pgd", "linf", 40),
    "LinfPGD": ("pgd", "linf", 40),
    "L2PGD": ("pgd", "l2", 50),
    "L1PGD": ("pgd", "l1", 50),
    "LinfBasicIterativeAttack": ("pgd", "linf", 10),
    "L2BasicIterativeAttack": ("pgd", "l2", 10),
    "L1BasicIterativeAttack": ("pgd", "l1", 10),
    "AdamPGD": ("apgd-ce", "linf", 40),
    "L2AdamPGD": ("apgd-ce", "l2", 50),
    "L1AdamPGD": ("apgd-ce", "l1", 50),
    "LinfAdamBasicIterativeAttack": ("apgd-ce", "linf", 10),
    "L2AdamBasicIterativeAttack": ("apgd-ce", "l2", 10),
    "L1AdamBasicIterativeAttack": ("apgd-ce", "l1", 10),
    "SparseL1DescentAttack": ("apgd-ce", "l1", 10),
    "LinfMomentumIterativeFastGradientMethod": ("pgd+momentum=1", "linf", 10),
    "L2MomentumIterativeFastGradientMethod": ("pgd+momentum=1", "l2", 10),
    "L1MomentumIterativeFastGradientMethod": ("pgd+momentum=1", "l1", 10),
    "FGSM": ("fgsm", "linf", 0),
    "FGM": ("fgsm", "l2", 0),
    "L1FastGradientAttack": ("fgsm", "l1", 0),
    "BoundaryAttack": ("hopskipjump", "l2", 400),
    "SaltAndPepperNoiseAttack": ("sparse-rs", "l0", 50),
    "LinfAdditiveUniformNoiseAttack": ("random", "linf", 10),
    "LinfRepeatedAdditiveUniformNoiseAttack": ("random", "linf", 100),
    "L2RepeatedAdditiveGaussianNoiseAttack": ("random", "l2", 100),
    "L2ClippingAwareRepeatedAdditiveGaussianNoiseAttack": ("random", "l2", 100),
    "L2RepeatedAdditiveUniformNoiseAttack": ("random", "l2", 100),
    "L2ClippingAwareRepeatedAdditiveUniformNoiseAttack": ("random", "l2", 100),
    "L2AdditiveGaussianNoiseAttack": ("random", "l2", 10),
    "L2ClippingAwareAdditiveGaussianNoiseAttack": ("random", "l2", 10),
}


def foolbox(folder: Path) -> None:
    import eagerpy as ep
    import foolbox

    class Ours(foolbox.attacks.base.Attack):
        kind = ("", "", 0)
        value_and_grad = None  # what their estimators of gradients ask for

        def __init__(self, **options: Any):
            self.options = options

        def __repr__(self) -> str:
            return f"{type(self).__name__}({self.options})"

        def run(self, model: Any, inputs: Any, criterion: Any, **_: Any) -> Any:
            return self(model, inputs, criterion, epsilons=None)[0]

        def repeat(self, times: int) -> "Ours":
            return self

        def __call__(self, model: Any, inputs: Any, criterion: Any, *, epsilons: Any, **_: Any) -> Any:
            name, norm, steps = self.kind
            if not name:
                pytest.skip(type(self).__name__)
            kind, plus, option = name.partition("+")
            steps = int(self.options.get("steps", steps))
            text = f"{kind}-{steps}{plus}{option}" if steps else kind
            wanted = isinstance(criterion, foolbox.criteria.TargetedMisclassification)
            x = inputs.raw
            true = model(inputs).raw.argmax(1) if wanted else criterion.raw
            target = criterion.target_classes.raw if wanted else None
            eps = epsilons.value if hasattr(epsilons, "value") else epsilons
            eps = (x[0, 0].numel() if norm == "l0" else inf) if eps is None else eps
            found = ours(lambda z: model(ep.astensor(z)).raw, x, true, text, eps, norm, target)
            advs = ep.astensor(found)
            return advs, advs, foolbox.attacks.base.get_criterion(criterion)(advs, model(advs))

    for name, made in list(vars(foolbox.attacks).items()):
        if isinstance(made, type) and name not in ("DatasetAttack", "LinearSearchBlendedUniformNoiseAttack"):
            kind = FOOLBOX.get(name, ("", "", 0))
            setattr(foolbox.attacks, name, type(name, (Ours,), {"kind": kind}))
    sys.path.insert(0, str(folder / "tests"))


def cleverhans(folder: Path) -> None:
    fake_module("nose.plugins.skip", SkipTest=pytest.skip.Exception)
    import unittest

    class CleverHansTest(unittest.TestCase):
        def assertClose(self, x: Any, y: Any, *args: Any, **kwargs: Any) -> None:
            torch.testing.assert_close(
                torch.as_tensor(x), torch.as_tensor(y), rtol=0, atol=1e-5, check_dtype=False
            )

    fake_module("cleverhans.devtools.checks", CleverHansTest=CleverHansTest)

    def box_of(x: Tensor, eps: float, low: float | None, high: float | None) -> tuple[float, float]:
        room = max(eps, 1.0) * 4
        return (
            float(x.min()) - room if low is None else float(low),
            float(x.max()) + room if high is None else float(high),
        )

    def within(
        name: str,
        fixed: float | None = None,
        checked: bool = False,
        unsaid: str | None = None,
    ) -> Callable[..., Tensor]:
        def run(
            model_fn: Any,
            x: Tensor,
            eps: float = 0.3,
            eps_iter: float | None = None,
            nb_iter: int | None = None,
            norm: float = inf,
            clip_min: Any = None,
            clip_max: Any = None,
            y: Tensor | None = None,
            targeted: bool = False,
            sanity_checks: bool = checked,
            **options: Any,
        ) -> Tensor:
            if eps < 0 or (eps_iter or 0) < 0:
                raise ValueError("expected eps >= 0")
            if sanity_checks:
                assert clip_min is None or bool((x >= clip_min).all())
                assert clip_max is None or bool((x <= clip_max).all())
            true = predicted(model_fn, x)
            box = box_of(x, eps, clip_min, clip_max)
            queries = (
                (nb_iter or 1) * 2 * options.get("spsa_samples", 128)
            )  # where each step asks for samples
            kind = name if eps_iter or unsaid is None else unsaid  # where they do not say how long a step is
            text = f"{kind}-{queries if name == 'spsa' else nb_iter or 40}" if name != "fgsm" else name
            if eps_iter == 0:
                return x
            step = {"step_size": eps_iter / (box[1] - box[0])} if eps_iter and name == "pgd" else {}
            true, target = (true, y) if targeted else (true if y is None else y, None)
            return ours(model_fn, x, true, text, eps, ORDERS[fixed or norm], target, box, **step)

        return run

    def minimal(name: str, order: float, default: int) -> Callable[..., Tensor]:
        def run(
            model_fn: Any,
            x: Tensor,
            n_classes: int = 10,
            y: Tensor | None = None,
            targeted: bool = False,
            clip_min: float = 0,
            clip_max: float = 1,
            norm: float = order,
            y_target: Any = None,
            **options: Any,
        ) -> Tensor:
            true = predicted(model_fn, x)
            target = y_target if y_target is not None else y if targeted else None
            steps = steps_of(options, default)
            kind = ORDERS.get(norm, str(norm))
            return ours(model_fn, x, true, f"{name}-{steps}", inf, kind, target, (clip_min, clip_max))

        return run

    made = {
        "fast_gradient_method": within("fgsm"),
        "projected_gradient_descent": within("pgd"),
        "sparse_l1_descent": within("pgd", 1, checked=True, unsaid="apgd-ce"),
        "spsa": within("spsa"),
        "carlini_wagner_l2": minimal("fab", 2, 50),
        "hop_skip_jump_attack": minimal("hopskipjump", 2, 800),
    }
    for name, run in made.items():
        module = "hop_skip_jump_attack" if name.startswith("hop") else name
        fake_module(f"cleverhans.torch.attacks.{module}", **{name: run})


TORCHATTACKS = {
    "FGSM": "fgsm",
    "BIM": "pgd-10",
    "PGD": "pgd-10",
    "EOTPGD": "eot2-pgd-10",
    "TPGD": "pgd-10",
    "RFGSM": "pgd-10",
    "FFGSM": "pgd-1",
    "MIFGSM": "pgd-10+momentum=1",
    "UPGD": "pgd-10+momentum=1",
    "NIFGSM": "pgd-10+momentum=1",
    "APGD": "apgd-ce-10",
    "APGDT": "apgd-t-10",
    "AutoAttack": "aa-20",
    "Square": "square-500",
    "SPSA": "spsa-200",
    "FAB": "fab-10",
    "CW": "fab-50",
    "DeepFool": "fab-50",
    "PGDL2": "pgd-10",
    "PGDRS": "pgd-10",
    "PGDRSL2": "pgd-10",
    "EADL1": "fab-50",
    "EADEN": "fab-50",
    "SparseFool": "sigma-zero-50",
    "JSMA": "sigma-zero-50",
    "OnePixel": "sparse-rs-200",
    "Pixle": "sparse-rs-200",
}
IN_L2, IN_L1 = ("CW", "DeepFool", "PGDL2", "PGDRSL2"), ("EADL1", "EADEN")
IN_L0 = {"SparseFool": 64, "JSMA": 64, "OnePixel": 1, "Pixle": 10}


def torchattacks(folder: Path) -> None:
    from robustbench_coded.data.registry import load_data
    from robustbench_coded.models.loading import load_checkpoint
    from robustbench_coded.models.pixel_model import PixelModel

    checkpoint = load_checkpoint(Path(__file__).parents[2] / "checkpoints" / "digits-erm.safetensors")
    stored = checkpoint.normalisation
    mean, std = (stored.mean, stored.std) if stored is not None else ((0.0,), (1.0,))
    network = PixelModel(checkpoint.network, mean, std, classes=10, arch="digits").eval()

    def accuracy(model: Any, x: Tensor, y: Tensor) -> float:
        return float((predicted(model, x) == y).double().mean())

    def images(n_examples: int, **_: Any) -> tuple[Tensor, Tensor]:
        return load_data("digits").batch(range(n_examples))

    fake_module("robustbench.utils", load_model=lambda *_, **__: network, clean_accuracy=accuracy)
    fake_module("robustbench.data", load_cifar10=images)

    class Ours:
        supported_mode = ("default", "targeted")
        name = ""

        def __init__(self, model: Any, **_: Any):
            self.model, self.targeted = model, False

        def set_mode_targeted_random(self, quiet: bool = False) -> None:
            self.targeted = True

        def __call__(self, x: Tensor, y: Tensor) -> Tensor:
            norm = "l2" if self.name in IN_L2 else "l1" if self.name in IN_L1 else "linf"
            norm = "l0" if self.name in IN_L0 else norm
            eps = IN_L0.get(self.name, {"l2": 1.0, "l1": 5.0}.get(norm, 8 / 255))
            target = (y + 1) % 10 if self.targeted else None
            return ours(self.model, x, y, TORCHATTACKS[self.name], eps, norm, target)

    made = {name: type(name, (Ours,), {"name": name}) for name in TORCHATTACKS}
    fake_module("torchattacks", __all__=list(made), __wrapper__=[], **made)
