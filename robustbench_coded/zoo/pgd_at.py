"""This project's adversarially trained network for digits, held between a certificate and an attack.

Truth: no less than what linear bounds certify (``linear_bounds``, arXiv 1811.00866), no more than what
descents of our own leave. The certificate takes a minute, so what it found is kept here; ``python -m
robustbench_coded.zoo.pgd_at`` finds it again.
"""

import torch

from robustbench_coded.data.digits import load_digits
from robustbench_coded.defences.standard import Standard
from robustbench_coded.zoo.descent import standing_after_descent
from robustbench_coded.zoo.digits_network import EXAMPLES, digits_network
from robustbench_coded.zoo.known import Known, Truth, everywhere_later, exactly
from robustbench_coded.zoo.linear_bounds import certified

NAME = "digits-pgd-at"
EPS = 0.1
# Of the first 256 test images, those that are not certified at this eps.
UNCERTIFIED = (
    1, 2, 4, 7, 8, 14, 17, 25, 26, 30, 41, 45, 46, 51, 52, 58, 63, 67, 68, 69, 72, 82, 84, 86, 94, 97,
    98, 102, 105, 106, 107, 108, 110, 114, 115, 118, 122, 126, 134, 138, 141, 143, 147, 148, 150, 152,
    155, 160, 162, 168, 180, 181, 185, 188, 195, 197, 200, 203, 211, 213, 216, 217, 218, 220, 226, 227,
    231, 232, 233, 234, 235, 237, 244, 248, 249, 251,
)  # fmt: skip


def known(n: int = EXAMPLES, eps: float = EPS) -> Known:
    """The network alone; at another eps nothing is certified."""
    model = digits_network(NAME)
    n = min(n, EXAMPLES)
    x, y = load_digits("test").batch(range(n))
    with torch.no_grad():
        clean = (model(x).argmax(1) == y).double().mean().item()
    low = sum(i not in UNCERTIFIED for i in range(n)) / n if eps == EPS else 0.0
    defence = Standard(model)
    defence.name = NAME

    def bounds() -> Truth:
        return Truth(low, standing_after_descent(model, x, y, eps).double().mean().item())

    return Known(defence, x, y, 128, exactly(clean), everywhere_later(bounds))


def uncertified() -> list[int]:
    """The numbers of the images that are not certified, worked out."""
    found = certified(digits_network(NAME), *load_digits("test").batch(range(EXAMPLES)), EPS)
    return (~found).nonzero().squeeze(1).tolist()


if __name__ == "__main__":
    print(uncertified())
