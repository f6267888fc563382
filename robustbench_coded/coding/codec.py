"""The codec of coded smoothing (arXiv:2510.00253, section 3): K inputs -> N mixtures -> f -> K estimates.

Each slot of the batch has a point alpha_i, each coded input a point beta_j (``nodes``). The encoder is the
spline through (alpha_i, x_i) read at beta, the decoder the one through (beta_j, f(coded_j)) read at alpha.
Both are linear in the batch, so each is one small matrix: E ``[N, K]`` and D ``[K, N]``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from numbers import Integral

import torch
from torch import Tensor

from robustbench_coded.coding import sizes, spline

NEGLIGIBLE = 1e-8  # share of the weights of an estimate; float32 rounds at 6e-8


@dataclass(frozen=True)
class Codec:
    """Encoder and decoder for batches of ``k`` inputs answered through ``n`` coded ones.

    ``perm`` shuffles a batch as randomised coded inference does (section 5): slot s holds input ``perm[s]``,
    and decoding returns each estimate to the place of its input. The matrices are shuffled, never the inputs:
    E_p = E[:, argsort(perm)] and D_p = D[argsort(perm)]. Permutations are int64, best on the CPU.

    Tensors may have any floating-point dtype and any trailing shape; results have the same dtype and device,
    under autocast too. Everything is differentiable.

    Attributes:
        k: inputs in a batch, at least 4.
        n: coded inputs, at least 4. More of them approximate f better.
        nodes: a key of ``nodes.NODES``.
        order: degree of the splines, 1, 3 or 5.
        smoothing_encoder, smoothing_decoder: lambda_e and lambda_d of appendix A; 0 interpolates.
    Raises:
        ValueError: one of them is not as above.
    """

    k: int
    n: int
    nodes: str = "chebyshev"
    order: int = 3
    smoothing_encoder: float = 0.0
    smoothing_decoder: float = 0.0

    def __post_init__(self) -> None:
        for name, size in (("k", self.k), ("n", self.n)):
            if not isinstance(size, Integral):
                raise ValueError(f"expected an integer {name}, got {size!r}")
            if size < sizes.FEWEST:
                raise ValueError(f"expected {name} >= {sizes.FEWEST}, got {size}")
        if self.nodes not in spline.NODES:
            raise ValueError(f"expected nodes to be one of {', '.join(spline.NODES)}, got {self.nodes!r}")
        # Built here so that a wrong order or smoothing is refused here, not at the first batch.
        self.encoder()
        self.decoder()

    def encoder(self, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Tensor:
        """E ``[n, k]``; cached: never write to it."""
        return _matrix(self, dtype, torch.device(device), encodes=True)

    def decoder(self, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Tensor:
        """D ``[k, n]``; cached: never write to it."""
        return _matrix(self, dtype, torch.device(device), encodes=False)

    def encode(self, x: Tensor, perm: Tensor | None = None) -> Tensor:
        """G batches ``[G, k, *shape]`` -> coded inputs ``[G, n, *shape]``; ``perm`` is ``[G, k]``."""
        matrix = self.encoder(dtype=x.dtype, device=x.device)
        if perm is not None:
            matrix = matrix.T[self._slots(perm).to(x.device)].transpose(1, 2)
        return _combine(matrix, x)

    def decode(self, values: Tensor, perm: Tensor | None = None) -> Tensor:
        """Coded outputs ``[G, n, *shape]`` -> estimates ``[G, k, *shape]``; ``perm`` is ``[G, k]``."""
        matrix = self.decoder(dtype=values.dtype, device=values.device)
        return _combine(matrix if perm is None else matrix[self._slots(perm).to(values.device)], values)

    def smoothed(self, x: Tensor, f: Callable[[Tensor], Tensor], perm: Tensor | None = None) -> Tensor:
        """Algorithm 1: estimates f at the inputs of G batches, ``[G, k, *in]`` -> ``[G, k, *out]``.

        Args:
            x: the batches, floating point.
            f: takes coded inputs ``[G n, *in]`` to ``[G n, *out]``, each row by itself; called once. It may
                be a whole network or a block inside one.
            perm: ``[G, k]`` int64, the shuffles of randomised coded inference; None leaves the order.
        """
        coded = self.encode(x, perm)
        values = f(coded.flatten(0, 1))
        if values.shape[:1] != (len(x) * self.n,):
            raise ValueError(f"expected f to return {len(x) * self.n} rows, got {tuple(values.shape)}")
        return self.decode(values.unflatten(0, coded.shape[:2]), perm)

    def smoothed_at(
        self, x: Tensor, f: Callable[[Tensor], Tensor], perm: Tensor | None, positions: Tensor
    ) -> Tensor:
        """`smoothed` at one input of each batch, ``[G, *out]``: equal up to rounding, by fewer rows of f.

        A spline forgets: what a coded input weighs in an estimate falls exponentially with its distance.

        Args:
            x, f, perm: as in `smoothed`; each batch sends `reach` coded inputs through f.
            positions: which input of each batch, ``[G]`` int64.
        """
        slots = None if perm is None else self._slots(perm).to(x.device)
        at = positions if slots is None else slots.gather(1, positions[:, None])[:, 0]
        weights = self.decoder(dtype=x.dtype, device=x.device)[at]  # [G, n]
        nearest = weights.abs().topk(self.reach, dim=1).indices
        rows = self.encoder(dtype=x.dtype, device=x.device)[nearest]  # [G, reach, k]
        coded = _combine(rows if slots is None else rows.gather(2, slots[:, None].expand_as(rows)), x)
        values = f(coded.flatten(0, 1)).unflatten(0, coded.shape[:2])
        return _combine(weights.gather(1, nearest)[:, None].to(values.dtype), values)[:, 0]

    @cached_property
    def reach(self) -> int:
        """How many coded inputs decide an estimate: the others weigh less than rounding errors in it."""
        weights = self.decoder(dtype=torch.float64).abs().sort(dim=1, descending=True).values
        rest = 1 - weights.cumsum(1) / weights.sum(1, keepdim=True)
        return min(self.n, int((rest > NEGLIGIBLE).sum(1).max()) + 1)

    def _slots(self, perm: Tensor) -> Tensor:
        """The slot each input is in, ``[G, k]``: the inverse permutations."""
        if perm.dtype != torch.int64 or perm.ndim != 2 or perm.shape[1] != self.k:
            raise ValueError(f"expected int64 perm (G, {self.k}), got {perm.dtype} {tuple(perm.shape)}")
        inputs, slots = perm.sort(dim=1)
        wrong = (inputs != torch.arange(self.k, device=perm.device)).any(dim=1)
        if wrong.any():
            raise ValueError(f"expected a perm of 0..{self.k - 1}, got {perm[wrong][0].tolist()}")
        return slots


def _combine(matrix: Tensor, rows: Tensor) -> Tensor:
    """``[p, q]`` or ``[G, p, q]`` times ``[G, q, *shape]`` -> ``[G, p, *shape]``."""
    groups, q, shape = len(rows), matrix.shape[-1], rows.shape[2:]
    if rows.shape[1:2] != (q,):
        raise ValueError(f"expected batches of shape ({q}, ...), got {tuple(rows.shape[1:])}")
    if matrix.ndim == 3 and len(matrix) != groups:
        raise ValueError(f"expected a perm for each of {groups} batches, got {len(matrix)}")
    with torch.autocast(rows.device.type, enabled=False):
        mixed = matrix @ rows.reshape(groups, q, prod(shape))
    return mixed.reshape(groups, matrix.shape[-2], *shape)


@lru_cache(maxsize=256)  # it depends on nothing but these arguments
def _matrix(codec: Codec, dtype: torch.dtype, device: torch.device, *, encodes: bool) -> Tensor:
    """The encoder ``[n, k]`` or the decoder ``[k, n]``, shared by all who ask."""
    nodes = spline.NODES[codec.nodes]
    alpha, beta = nodes.alpha(codec.k), nodes.beta(codec.n)
    if encodes:
        exact = spline.spline_matrix(alpha, beta, order=codec.order, smoothing=codec.smoothing_encoder)
    else:
        exact = spline.spline_matrix(beta, alpha, order=codec.order, smoothing=codec.smoothing_decoder)
    if not dtype.is_floating_point:
        raise ValueError(f"expected floating-point tensors, got {dtype}")
    # A tensor made under inference_mode could not serve a later backward pass.
    with torch.inference_mode(False):
        return torch.from_numpy(exact).to(device=device, dtype=dtype)
