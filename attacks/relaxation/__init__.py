"""Smooth backward passes for operators that saturate, truncate or select; the forward pass is unchanged.

One family of operators a file; ``relaxation.py`` puts them together. What ``relaxed-pgd-20+momentum=1``
leaves of entries of the zoo and of published defences with an operator here and without it, in percent:

- round: ``rounding`` 0 to 100, ``published:bit-depth`` 14 to 98, ``published:jpeg`` 11 to 97
- comparisons: ``published:thermometer`` 14 to 98, ``hidden-direction`` 0 to 100
- where: ``edge-only`` 19 to 100
- softmax: ``op-softmax`` 0 to 100, ``published:diffusion-purification`` 54 to 56
- clamp: ``op-clamp`` 0 to 100, ``published:jpeg`` 11 to 14
- cross-entropy: ``saturated`` 0 to 100, ``published:bit-depth`` 14 to 17
- sigmoid, tanh, sign, top-k and sort, scatter, one-hot, max, reads at an index: 0 to 100 of the entries named
  after them, ``lifted`` for one-hot
- argmax: ``pinned-0.2`` 5 to 23, ``op-nearest-code`` 0 to 100
- and, or, any, all: ``border-band`` 12 to 100
- integer casts: ``op-bit-depth`` 0 to 100, before bit shifts went
- detach: ``off-manifold`` 2 to 99
- no_grad, numpy and custom functions: 0 to 100 of the entries named after them

Not here is what no entry needed, or its own entry alone, whose verdict stays without it: gather, equality,
bit shifts, bernoulli, majorities, ranks, sines, writes to masks, two bounds, answers put together in Python.
"""

from attacks.relaxation.record import Operator, Record
from attacks.relaxation.relaxation import LEVELS, Relaxation

__all__ = ["LEVELS", "Operator", "Record", "Relaxation"]
