"""Copies of networks prepared for attacks: batch-norms folded, fewer bits where they are enough, TF32."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from attacks import accelerator, gradients
from robustbench_coded.models.in_memory import own_copy
from robustbench_coded.models.pixel_model import PixelModel


def fold_batch_norms(network: nn.Module) -> int:
    """Folds, in place, each batch-norm that follows a convolution and is all that the convolution feeds.

    The batch-norm becomes ``nn.Identity``, so the network keeps its modules, their names and its blocks.

    Args:
        network: in eval mode; where it has batch-norms, ``torch.fx`` must be able to trace it.
    Returns:
        How many were folded.
    Raises:
        RuntimeError: tracing failed.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        return 0
    modules = dict(network.named_modules())
    try:
        traced = fx.Tracer().trace(network)
    except Exception as error:  # a network from outside can fail in any way, and of a stand-in for its input
        raise RuntimeError("torch.fx can't trace its forward, to fold batch-norms") from error
    nodes = [node for node in traced.nodes if node.op == "call_module"]
    calls = Counter(node.target for node in nodes)
    folded = 0
    for node in nodes:
        before = node.args[0] if node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module":
            continue
        bn, conv = modules[str(node.target)], modules[str(before.target)]
        # What a pre-activation network adds to its stem's output is not normalised.
        alone = len(before.users) == calls[before.target] == calls[node.target] == 1
        both = isinstance(bn, nn.BatchNorm2d) and isinstance(conv, nn.Conv2d)
        if both and alone and bn.running_var is not None:
            network.set_submodule(str(before.target), fuse_conv_bn_eval(conv, bn))
            network.set_submodule(str(node.target), nn.Identity())
            folded += 1
    return folded


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Within it CUDA's convolutions and matrix products may, or may not, use TF32; a CPU does not care."""
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = convolutions, products


Computed = Literal["float32", "bfloat16"]
Precision = Literal[Computed, "auto"]

# Gradient signs that "auto" wants to be alike before it takes bfloat16.
AUTO_AGREEMENT = 0.99


@dataclass(frozen=True)
class PreparedInfo:
    """The prepared model that attacks differentiate, compared with the original on real images.

    Attributes:
        prepared: False where the original is used, because nothing else passed the comparison.
        precision: ``float32`` or ``bfloat16``.
        folded: batch-norms folded into convolutions.
        images: images that it was compared on.
        logit_difference: largest absolute difference between the logits of the two.
        largest_logit: largest absolute logit of the original.
        same_predictions: fraction of the images.
        same_signs: fraction of the components of the cross-entropy's input gradients whose sign is the same.
        declined: copies whose answers differ too much, and precisions that it refuses, a clause each.
    """

    prepared: bool
    precision: Computed
    folded: int
    images: int
    logit_difference: float
    largest_logit: float
    same_predictions: float
    same_signs: float
    declined: tuple[str, ...] = ()

    def __str__(self) -> str:
        declined = "".join(f"; no copy in {clause}" for clause in self.declined)
        if not self.prepared:
            return f"gradients of the original model{declined}"
        how = f"{self.folded} batch-norms folded, {self.precision}"
        return f"gradients of a prepared model ({how}): {self.comparison}{declined}"

    @property
    def comparison(self) -> str:
        return (
            f"on {self.images} images its logits differ by at most {self.logit_difference:.2g} of "
            f"{self.largest_logit:.3g}, {self.same_predictions:.1%} of the predictions and "
            f"{self.same_signs:.2%} of the gradients' signs are the same"
        )


class AttackCopy(NamedTuple):
    """The Model that attacks differentiate: a prepared one, or the original."""

    model: PixelModel
    info: PreparedInfo


def prepare_model(model: PixelModel, images: Tensor, *, precision: Precision = "float32") -> AttackCopy:
    """Folds batch-norms, lays the weights out channels-last, lowers the precision where that is asked for.

    The result is compared with the original on ``images``: in float32 on a CPU the logits may differ by a
    thousandth of the largest one, in TF32 (which is what float32 means on CUDA) by a fiftieth, in
    bfloat16 by a tenth. What differs by more, or fails, is not used; its reason is in the info.

    Args:
        model: the original; not changed.
        images: [n, channels, height, width] in [0, 1], real ones, on the model's device; a few dozen.
        precision: of the gradients. ``auto`` is bfloat16 where the hardware multiplies it and 99% of the
            signs of this model's gradients agree with float32's, else float32.
    """
    reference = _ask(model, images, allow_tf32=False)
    declined: tuple[str, ...] = ()
    for dtype, (logits, predictions, signs) in _tried(precision, images.device):
        computed = cast(Computed, str(dtype).removeprefix("torch."))
        try:
            if (network := own_copy(model.network)) is None:
                break
            folded = fold_batch_norms(network)
            # Folded in float32 before it is rounded. Convolutions on a CPU and on tensor cores run in this
            # layout, and would rearrange every image otherwise.
            network = network.to(dtype).to(memory_format=accelerator.layout(images.device))
            mean, std = model.mean.flatten().tolist(), model.std.flatten().tolist()
            prepared = PixelModel(network, mean, std, classes=model.classes, arch=model.arch, dtype=dtype)
            prepared = prepared.to(model.mean.device)
            answer = _ask(prepared, images, allow_tf32=True, raised=reference.predicted)
        except Exception as error:  # a network from outside can refuse any of this, in any way
            gradients.raise_machine_fault(error)
            if dtype != torch.float32:  # which was asked for
                declined += (f"{computed}: it failed ({' '.join(str(error).split())[:200]})",)
            continue
        info = PreparedInfo(True, computed, folded, len(images), *_compared(reference, answer), declined)
        # Written so that NaN does not pass.
        if (
            info.logit_difference <= logits * info.largest_logit
            and info.same_predictions >= predictions
            and info.same_signs >= signs
        ):
            return AttackCopy(prepared, info)
        declined += (f"{computed}: {info.comparison}",)
    same = _compared(reference, reference)
    return AttackCopy(model, PreparedInfo(False, "float32", 0, len(images), *same, declined))


def multiplies_bfloat16(device: torch.device) -> bool:
    """True if the device has instructions for bfloat16 products: else they are slower than float32's."""
    if (module := accelerator.module_of(device)) is not None:
        if not hasattr(module, "is_bf16_supported"):
            return False
        with module.device(device):
            return bool(module.is_bf16_supported(including_emulation=False))
    # Older versions of torch cannot tell.
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _tried(
    precision: Precision, device: torch.device
) -> Iterator[tuple[torch.dtype, tuple[float, float, float]]]:
    """Number types, the best first, and how alike the result must be: the largest difference of a logit as a
    share of the largest one, and the fractions of predictions and of gradients' signs that are the same."""
    auto = precision == "auto"
    if precision == "bfloat16" or (auto and multiplies_bfloat16(device)):
        yield torch.bfloat16, (0.1, 0.9, AUTO_AGREEMENT if auto else 0.0)
    yield torch.float32, ((1e-3, 1.0, 0.99) if device.type == "cpu" else (0.02, 0.9, 0.0))


class _Answers(NamedTuple):
    logits: Tensor  # [n, classes]
    predicted: Tensor  # [n]
    grad: Tensor  # like the images


def _ask(model: PixelModel, images: Tensor, *, allow_tf32: bool, raised: Tensor | None = None) -> _Answers:
    """Logits, and the gradient of the cross-entropy towards the classes ``raised``, by default its own."""
    # Networks that sample draw the same numbers in every copy.
    with tf32(allow_tf32), torch.enable_grad(), accelerator.random_states_kept():
        torch.manual_seed(0)
        x = images.detach().clone().requires_grad_()
        logits = gradients.recorded(model, x)
        predicted = logits.argmax(1)
        loss = F.cross_entropy(logits, predicted if raised is None else raised, reduction="sum")
        grad = gradients.gradient_or_zero(loss, x)  # a network in memory may have none
    return _Answers(logits.detach().nan_to_num(0.0, 0.0, 0.0), predicted, grad)


def _compared(reference: _Answers, answer: _Answers) -> tuple[float, float, float, float]:
    """The four figures of ``PreparedInfo``."""
    apart, largest = (answer.logits - reference.logits).abs().max(), reference.logits.abs().max()
    same = answer.predicted == reference.predicted, answer.grad.sign() == reference.grad.sign()
    predictions, signs = (float(alike.cpu().double().mean()) for alike in same)
    return float(apart), float(largest), predictions, signs
