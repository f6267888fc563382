"""The league's attacks: each library's, told its budget of images for an example where it can be told.

A step with a gradient costs two images. Options beside steps, eps, the number of targets and that of draws
are the library's defaults, but for step sizes that it states for another eps.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from io import StringIO

import torch
from torch import Tensor, nn

from benchmarks.peers.league_counter import Counted
from benchmarks.peers.league_random import CountedDefence
from robustbench_coded import attack

Subject = Counted | CountedDefence
Run = Callable[[Subject, Tensor, Tensor, float, int], object]  # network, x, y, eps, images for an example
TARGETS = 9
AA_IMAGES = 22  # that a step of preset aa costs on an example that it leaves, about
AA_IMAGES_RANDOM = 20  # and on a random defence, where its attacks all run on every example
AA_COMPARED = 50  # that comparing what they found costs there
FEWEST_CLASSES = 4  # that the difference of logits ratio towards a target is made of
DRAWS = 10  # of an attack that takes the mean of several gradients, where its library does not say


def ours(name: str, runs: int = 1) -> Run:
    """An attack by its name, as many steps as a budget for this many runs allows."""

    def run(network: Subject, x: Tensor, y: Tensor, eps: float, images: int) -> object:
        named = name.format(steps=max(1, (images - 2) // (2 * runs)))
        return attack(network, x, y, named, eps, seed=0, early_stop=True)

    return run


def _in_turn(network: Subject, x: Tensor, y: Tensor, eps: float, images: int) -> object:
    """Preset aa, of as many steps as the budget allows, and no fewer than by default: it may end early."""
    if isinstance(network, CountedDefence):
        steps = max(1, (images - AA_COMPARED) // AA_IMAGES_RANDOM)
        return attack(network, x, y, f"aa-{steps}", eps, seed=0, early_stop=True)
    named = f"aa-{max(100, images // AA_IMAGES)}"
    return attack(network, x, y, named, eps, seed=0, early_stop=True)


def _torchattacks(name: str, runs: int = 1, **options: object) -> Run:
    def run(network: Subject, x: Tensor, y: Tensor, eps: float, images: int) -> object:
        import torchattacks

        given = {"alpha": eps / 4} if name in ("PGD", "MIFGSM", "EOTPGD") else {}
        given |= {"n_classes": network.classes} if name == "APGDT" else {}
        steps = max(1, images // (2 * runs))
        made = getattr(torchattacks, name)(network, eps=eps, steps=steps, **given, **options)
        return made(x, y)

    return run


def _pyautoattack(name: str, runs: int = 1) -> Run:
    def run(network: Subject, x: Tensor, y: Tensor, eps: float, images: int) -> object:
        from pyautoattack import AutoAttack

        whole = name in ("standard", "rand")
        version = {"version": name} if whole else {"version": "custom", "attacks": [name]}
        suite = AutoAttack(network, norm="Linf", eps=eps, seed=0, device="cpu", **version)
        if network.classes < FEWEST_CLASSES:  # as its authors advise
            suite.attacks_to_run = [each for each in suite.attacks_to_run if each in ("apgd-ce", "square")]
        suite.apgd_targeted.n_target_classes = min(TARGETS, network.classes - 1)
        if name == "square":
            suite.square.n_queries = images
        elif name == "rand":  # each of the draws that it takes by default
            several = 2 * suite.apgd.eot_iter * len(suite.attacks_to_run)
            suite.apgd.n_iter = max(1, images // several)
        elif name != "standard":
            inside = suite.apgd if name == "apgd-ce" else suite.apgd_targeted
            inside.n_iter, inside.n_restarts = max(1, images // (2 * runs)), 1
        return suite.run_standard_evaluation(x, y, batch_size=len(x))

    return run


def _foolbox(name: str, draws: int = 1) -> Run:
    def run(network: Subject, x: Tensor, y: Tensor, eps: float, images: int) -> object:
        import foolbox

        model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
        if draws > 1:
            model = foolbox.models.ExpectationOverTransformationWrapper(model, draws)
        made = getattr(foolbox.attacks, name)(steps=max(1, images // (2 * draws)))
        return made(model, x, y, epsilons=None if "FMN" in name else eps)

    return run


def _art(name: str) -> Run:
    def run(network: Subject, x: Tensor, y: Tensor, eps: float, images: int) -> object:
        from art.attacks import evasion
        from art.estimators.classification import PyTorchClassifier

        loss, shape = nn.CrossEntropyLoss(), x.shape[1:]
        model = PyTorchClassifier(network, loss, shape, network.classes, clip_values=(0.0, 1.0))
        options = {"eps": eps, "eps_step": eps / 4, "max_iter": max(1, images // 2), "batch_size": len(x)}
        options |= {"nb_random_init": 1} if name.startswith("Auto") else {"num_random_init": 1}
        made = getattr(evasion, name)(model, verbose=False, **options)
        return made.generate(x.numpy(), y.numpy())

    return run


def _adv_lib(name: str, runs: int = 1, **options: object) -> Run:
    def run(network: Subject, x: Tensor, y: Tensor, eps: float, images: int) -> object:
        from adv_lib import attacks

        steps = max(1, images // (2 * runs))
        if name == "fmn":
            return attacks.fmn(network, x, y, norm=float("inf"), steps=steps)
        if name == "pgd_linf":
            return attacks.pgd_linf(network, x, y, eps, steps=steps)
        return getattr(attacks, name)(network, x, y, eps, norm=float("inf"), n_iter=steps, **options)

    return run


# library -> attack -> how it is run; and the module that tells whether the library is installed.
LIBRARIES: dict[str, tuple[str, dict[str, Run]]] = {
    "csrobust": (
        "attacks",
        {
            "aa": _in_turn,
            "apgd-mt": ours("apgd-mt-{steps}", 4),
            "apgd-ce": ours("apgd-ce-{steps}"),
            "apgd-dlr": ours("apgd-dlr-{steps}"),
            "apgd-t": ours("apgd-t-{steps}", TARGETS),
            "pgd": ours("pgd-{steps}"),
            "pgd+momentum": ours("pgd-{steps}+momentum=1"),
        },
    ),
    "torchattacks": (
        "torchattacks",
        {
            "APGD": _torchattacks("APGD"),
            "APGDT": _torchattacks("APGDT", TARGETS),
            "PGD": _torchattacks("PGD"),
            "MIFGSM": _torchattacks("MIFGSM"),
        },
    ),
    "pyautoattack": (
        "pyautoattack",
        {
            "apgd-ce": _pyautoattack("apgd-ce"),
            "apgd-t": _pyautoattack("apgd-t", TARGETS),
            "square": _pyautoattack("square"),
            "standard": _pyautoattack("standard"),
        },
    ),
    "foolbox": (
        "foolbox",
        {
            "LinfPGD": _foolbox("LinfPGD"),
            "LinfAdamPGD": _foolbox("LinfAdamPGD"),
            "LInfFMNAttack": _foolbox("LInfFMNAttack"),
        },
    ),
    "ART": (
        "art",
        {
            "ProjectedGradientDescent": _art("ProjectedGradientDescent"),
            "AutoProjectedGradientDescent": _art("AutoProjectedGradientDescent"),
        },
    ),
    "adv-lib": (
        "adv_lib",
        {
            "apgd-ce": _adv_lib("apgd", loss_function="ce"),
            "apgd-dlr": _adv_lib("apgd", loss_function="dlr"),
            "apgd_targeted": _adv_lib("apgd_targeted", TARGETS),
            "fmn": _adv_lib("fmn"),
            "pgd_linf": _adv_lib("pgd_linf"),
        },
    ),
}

# More of them, on random defences: the mean of several draws, and what each library made for such defences.
ON_RANDOM: dict[str, dict[str, Run]] = {
    "csrobust": {
        "pgd+margin+momentum": ours("pgd-{steps}+loss=margin+momentum=1"),
        "fixed-pgd": ours("fixed-pgd-{steps}"),
        "eot10-pgd": ours("eot10-pgd-{steps}", DRAWS),
        "eot10-apgd-ce": ours("eot10-apgd-ce-{steps}", DRAWS),
        "relaxed-pgd+momentum": ours("relaxed-pgd-{steps}+momentum=1"),
        "relaxed-eot4-apgd-ce": ours("relaxed-eot4-apgd-ce-{steps}", 4),
    },
    "torchattacks": {
        "EOTPGD": _torchattacks("EOTPGD", DRAWS, eot_iter=DRAWS),
        "APGD-eot": _torchattacks("APGD", DRAWS, eot_iter=DRAWS),
    },
    "pyautoattack": {"rand": _pyautoattack("rand")},
    "foolbox": {"LinfPGD-eot": _foolbox("LinfPGD", DRAWS)},
    "adv-lib": {"apgd-ce-eot": _adv_lib("apgd", DRAWS, loss_function="ce", eot_iter=DRAWS)},
}


# They raise an exception where there are two classes; ours do without the ratio there.
NEED_CLASSES = {
    ("torchattacks", "APGDT"),
    ("pyautoattack", "apgd-t"),
    ("adv-lib", "apgd-dlr"),
    ("adv-lib", "apgd_targeted"),
}


def installed(on_random: bool, classes: int) -> Iterator[tuple[str, str, Run]]:
    """Library, attack and how it is run, of the libraries that are here, on networks of so many classes."""
    for library, (module, attacks) in LIBRARIES.items():
        if find_spec(module) is not None:
            for name, run in (attacks | ON_RANDOM.get(library, {}) if on_random else attacks).items():
                if classes >= FEWEST_CLASSES or (library, name) not in NEED_CLASSES:
                    yield library, name, run


def missing() -> list[str]:
    return [library for library, (module, _) in LIBRARIES.items() if find_spec(module) is None]


@contextmanager
def quietly() -> Iterator[None]:
    """Within it nothing is printed, and random numbers begin at one place."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()), torch.random.fork_rng():
        torch.manual_seed(0)
        yield
