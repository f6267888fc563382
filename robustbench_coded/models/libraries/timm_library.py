"""``timm:NAME``: any network of timm, under its own name there."""

from difflib import get_close_matches

from robustbench_coded.errors import InputError
from robustbench_coded.models.libraries.definition import Definition, called
from robustbench_coded.models.normalisation import named


def define(name: str, classes: int, channels: int) -> Definition:
    """timm's network ``name`` without weights, for that many classes and channels.

    Raises:
        InputError: timm is not installed, has no such network, or cannot build it so.
    """
    try:
        import timm
    except ImportError as error:
        raise InputError(
            f"--arch timm:{name}: timm is not installed ({error}); pip install 'csrobust[timm]'"
        ) from None
    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(), n=3) or ["timm.list_models() has them all"]
        raise InputError(f"--arch timm:{name}: timm has no such network; closest: {', '.join(near)}")
    spec = f"timm:{name}"
    network = called(
        spec, lambda: timm.create_model(name, pretrained=False, num_classes=classes, in_chans=channels)
    )
    # Older networks have their configuration as default_cfg.
    config = getattr(network, "pretrained_cfg", None) or getattr(network, "default_cfg", None) or {}
    fixed = config.get("fixed_input_size", False) or hasattr(
        getattr(network, "patch_embed", None), "img_size"
    )
    size = config.get("input_size", (0, 0, 0))[-1]
    mean, std = config.get("mean"), config.get("std")
    notes: tuple[str, ...] = ()
    if mean and std:
        normalisation = named(tuple(mean), tuple(std))
        notes = (f"timm states the normalisation {normalisation.name} ({normalisation}) for its own weights",)
    return Definition(network, classes, channels, image_size=size if fixed and size else None, notes=notes)
