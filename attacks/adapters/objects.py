"""What to write where somebody has an attack object of another package.

Such an object asks the network that it was made with, which is neither a defence nor counted, so that it is
never run as it is.
"""

import inspect
from collections.abc import Iterable
from typing import Any

TORCHATTACKS, AUTOATTACK, FOOLBOX, ART = "torchattacks", "autoattack", "foolbox", "art"
_PACKAGES = {name: name for name in (TORCHATTACKS, AUTOATTACK, FOOLBOX, ART)} | {"pyautoattack": AUTOATTACK}
# What an evaluation says itself, or what changes no result.
_OURS = ("model", "eps", "norm", "seed", "n_classes", "verbose", "batch_size")


def written(attack: Any) -> str | None:
    """Why an attack is refused, and the argument that runs it; None for one of no such package.

    Args:
        attack: an object or a class of torchattacks, AutoAttack, foolbox or ART.
    """
    kind = attack if isinstance(attack, type) else type(attack)
    package = _PACKAGES.get(kind.__module__.partition(".")[0])
    if package is None:
        return None
    if package == TORCHATTACKS:
        options = _numbers(attack, inspect.signature(kind).parameters)
        more = "".join(f"+{name}={value}" for name, value in options.items())
        line = f'"torchattacks:{kind.__name__}{more}"'
    elif package == AUTOATTACK:
        line = f'"autoattack:{getattr(attack, "version", "standard")}"'
    elif package == FOOLBOX:
        line = "lambda model, x, y, eps: attack(foolbox.PyTorchModel(model, (0, 1)), x, y, epsilons=eps)[1]"
    else:
        classifier = "PyTorchClassifier(model, None, x.shape[1:], model(x).shape[1], clip_values=(0, 1))"
        options = _numbers(attack, getattr(kind, "attack_params", ()))
        given = "".join(f", {name}={value}" for name, value in options.items())
        line = (
            "lambda model, x, y, eps: torch.from_numpy("
            f"{kind.__name__}({classifier}, eps=eps{given}).generate(x.numpy(), y.numpy()))"
        )
    radius = getattr(attack, "eps", getattr(attack, "epsilon", None))
    eps = f", eps={radius:.6g}" if isinstance(radius, int | float) else ""
    return f"{kind.__name__} of {package} asks the network that it was made with; write attacks=[{line}]{eps}"


def _numbers(attack: Any, names: Iterable[str]) -> dict[str, int | float]:
    """Arguments of the constructor that the object still has; none of a class."""
    held = {} if isinstance(attack, type) else vars(attack)
    values = {name: held.get(name) for name in names if name not in _OURS}
    return {name: value for name, value in values.items() if isinstance(value, int | float)}
