"""``torchvision:NAME``: any classification network of torchvision, under its own name there."""

import inspect
from difflib import get_close_matches

from robustbench_coded.errors import InputError
from robustbench_coded.models.libraries.definition import Definition, called


def define(name: str, classes: int, channels: int) -> Definition:
    """torchvision's network ``name`` without weights, its last layer for ``classes``.

    Raises:
        InputError: torchvision has no classifier of that name, or it cannot be built so.
    """
    from torchvision import models

    known = list(models.list_models(module=models))
    if name not in known:
        near = get_close_matches(name, known, n=3) or known[:3]
        raise InputError(
            f"--arch torchvision:{name}: torchvision has no such network; closest: {', '.join(near)}"
        )
    if channels != 3:
        raise InputError(f"--arch torchvision:{name}: it takes 3 channels, the weights {channels}")
    builder = models.get_model_builder(name)
    options = {"init_weights": False} if "init_weights" in inspect.signature(builder).parameters else {}
    spec = f"torchvision:{name}"
    network = called(spec, lambda: models.get_model(name, weights=None, num_classes=classes, **options))
    size = getattr(network, "image_size", None)
    return Definition(network, classes, image_size=size if isinstance(size, int) else None)
