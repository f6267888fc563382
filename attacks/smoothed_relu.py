"""ReLUs whose backward is that of a smooth function, for as long as an ascent looks for its basin.

The gradient of a ReLU that is off is zero, however close it is to being on: an ascent keeps most of the
activation pattern that it starts with. With the slope of a sigmoid it sees the neighbouring patterns, too.
The width shrinks to nothing during an ascent, as in graduated non-convexity. Forwards are unchanged.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class SmoothedReLU(TorchFunctionMode):
    """Within it, the slope of a ReLU at z is sigmoid(z / (width * s)), s the deviation of the layer's inputs.

    Args:
        widths: ``[n]``, one for each input of a batch of n; batches of another size take their mean.
    """

    def __init__(self, widths: Tensor):
        super().__init__()
        self.widths = widths

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in _RELUS or not torch.is_grad_enabled():
            return func(*args, **kwargs)
        z: Tensor = args[0] if args else kwargs["input"]
        if not z.is_floating_point() or not z.ndim:
            return func(*args, **kwargs)
        in_place = func in _IN_PLACE or kwargs.get("inplace") or args[1:] == (True,)
        widths = self.widths.to(z) if len(z) == len(self.widths) else self.widths.mean().to(z)[None]
        width = (widths * z.detach().std(correction=0)).clamp(min=torch.finfo(z.dtype).tiny)
        smooth = _Smooth.apply(z.clone() if in_place else z, width.view(-1, *[1] * (z.ndim - 1)))
        return z.copy_(smooth) if in_place else smooth


_IN_PLACE = (torch.relu_, Tensor.relu_)
_RELUS = (functional.relu, torch.relu, Tensor.relu, *_IN_PLACE)


class _Smooth(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, width: Tensor) -> Tensor:
        ctx.save_for_backward(z, width)
        return z.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        z, width = ctx.saved_tensors
        return grads[0] * torch.sigmoid(z / width), None
