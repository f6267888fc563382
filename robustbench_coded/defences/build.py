"""From a defence's specification to the defence itself, around a model."""

from collections.abc import Callable

from torch import Tensor, nn

from robustbench_coded.defences import inferences, plugin, protocol, rci
from robustbench_coded.defences.options import PIPED, DefenceSpec, installed, mixes_images, parse_defence
from robustbench_coded.errors import InputError
from robustbench_coded.extensions import load


def build_defence(
    spec: DefenceSpec | str, model: nn.Module, k: int, *, pool: Callable[[], Tensor] | None = None
) -> protocol.Defence:
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
    options = dict(spec.options)
    match spec.kind:
        case "standard":
            return inferences.Standard(model)
        case "coded":
            return rci.Coded(model, k, spec.n or "", name=spec.label, **options)
        case "rci":
            return rci.RCI(model, k, spec.n or "", name=spec.label, **options)
        case "noise":
            return inferences.GaussianNoise(model, name=spec.label, **options)
        case "resize-pad":
            return inferences.ResizePad(model, name=spec.label, **options)
        case "mixup-inference":
            return inferences.MixupInference(model, _images(pool, spec), name=spec.label, **options)
        case "plugin" if (spec.target or "").startswith(PIPED):
            return load("processes", "cmd")(spec.target or "", model)
        case "plugin":
            return plugin.load_user_defence(spec.target or "", model)
        case kind if mixes_images(spec):
            return installed()[kind].build(model, _images(pool, spec))
        case kind:
            return installed()[kind].build(model)


def _images(pool: Callable[[], Tensor] | None, spec: DefenceSpec) -> Tensor:
    if pool is None:
        raise InputError(f"{spec.label} cannot be built without a pool of images that are not evaluated")
    return pool()
