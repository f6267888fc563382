"""From a defence's specification to the defence itself, around a model."""

from collections.abc import Callable

from torch import Tensor, nn

from robustbench_coded.defences.inferences import GaussianNoise, MixupInference, ResizePad, Standard
from robustbench_coded.defences.options import (
    CODED,
    PIPED,
    DefenceSpec,
    installed,
    mixes_images,
    parse_defence,
)
from robustbench_coded.defences.plugin import load_user_defence
from robustbench_coded.defences.protocol import Defence
from robustbench_coded.defences.rci import RCI, Coded
from robustbench_coded.errors import InputError
from robustbench_coded.extensions import load

INFERENCES: dict[str, Callable[..., Defence]] = {
    "standard": Standard,
    "coded": Coded,
    "rci": RCI,
    "noise": GaussianNoise,
    "resize-pad": ResizePad,
    "mixup-inference": MixupInference,
}


def build_defence(
    spec: DefenceSpec | str, model: nn.Module, k: int, *, pool: Callable[[], Tensor] | None = None
) -> Defence:
    """The defence that ``spec`` describes, around ``model``; it has ``spec.resolve_n(k)`` coded inputs.

    Args:
        spec: as parsed, or as text for ``options.parse_defence``.
        model: pixels in [0, 1] -> logits.
        k: size of a full batch.
        pool: gives images [P, C, H, W] that are not evaluated, for the defences that mix them in; on the
            model's device.
    Raises:
        InputError: a defence that cannot be built around this model, or at this k.
    """
    if isinstance(spec, str):
        spec = parse_defence(spec)
    if spec.kind == "plugin":
        target = spec.target or ""
        return (load("processes", "cmd") if target.startswith(PIPED) else load_user_defence)(target, model)
    if mixes_images(spec) and pool is None:
        raise InputError(f"{spec.label} cannot be built without a pool of images that are not evaluated")
    images = (pool(),) if mixes_images(spec) and pool else ()
    if spec.kind not in INFERENCES:
        return installed()[spec.kind].build(model, *images)
    sizes = (k, spec.n) if spec.kind in CODED else ()
    defence = INFERENCES[spec.kind](model, *sizes, *images, **dict(spec.options))
    defence.name = spec.label
    return defence
