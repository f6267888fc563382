"""Networks whose robustness is decided by construction: a certified base and pits that gradients lead away
from.

A base is trained on digits until interval bounds certify it at eps + shift
(`benchmarks.errors.twin_networks`). `Pits` adds, for each image x_i, a ReLU network that raises one wrong
logit t_i near one point c_i:

    H_i relu(1 - [sum_{j in J_i} relu(|x_j - c_ij| - r) + G sum_j relu(|x_j - x_ij| - eps - shift)] / w)

J_i are the m pixels on which the gradient of the base's margin at x_i is largest, and c_i moves each of
them by eps against that gradient, so that an ascent of the loss moves away from the pit. The second sum
(the gate) is zero in the ball of x_i.

Lemma (planted). c_i lies eps from x_i. Within r of c_i the pit has its full height H_i, the pits of other
images are zero because their gates exceed w (`separated`), and H_i exceeds what interval bounds allow any
other logit to be above t_i there. So every input within `shift` <= r of c_i is answered t_i.

Lemma (robust). The twin has its pits at c_i moved further, until one coordinate alone exceeds r + w in the
whole ball of radius eps + shift. All pits are zero in all balls, and the base's certificate is the
network's.

A uniform start in the ball falls into the pit with probability sum_k C(m, k) r^(m-k) w^k / k! / (2 eps)^m,
up to the box. SoundnessBench (2412.03154) trains its hidden counterexamples; VeriStressGT (2605.17153)
constructs robust instances, as is done here.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.errors.twin_networks import CLASSES, Network

FLAT, WIDTH, SHIFT = 0.2, 0.5, 0.15  # r, w and the shift that a defence may add, in eps
GATE = 4.0  # G
MARGIN = 0.5  # of logits, by which a planted answer wins at least


@dataclass(frozen=True)
class Scene:
    """Images with what a network around them is built from.

    Attributes:
        x, y: images [n, 1, 8, 8] that every base certifies at eps + shift, and labels.
        target: the wrong answers of planted counterexamples, [n].
        eps: radius in l-infinity. pixels: m, how many decide whether a pit is entered.
    """

    x: Tensor
    y: Tensor
    target: Tensor
    eps: float
    pixels: int

    @property
    def shift(self) -> float:
        """How far a defence may move pixels after the attack."""
        return SHIFT * self.eps


class Pits(nn.Module):
    """A base with a pit for each image.

    Args:
        base: certified on the scene's images.
        deciding: J, pixels of each pit, [n, m]. centres: c on them, [n, m]. heights: H, [n].
    """

    def __init__(self, base: Network, scene: Scene, deciding: Tensor, centres: Tensor, heights: Tensor):
        super().__init__()
        self.base, self.eps, self.reach = base, scene.eps, scene.eps + scene.shift
        self.images, self.deciding, self.centres = scene.x.flatten(1), deciding, centres
        self.raised = heights[:, None] * nn.functional.one_hot(scene.target, CLASSES).to(centres)

    def depth(self, x: Tensor) -> Tensor:
        """How full each pit is at each input, 0 to 1, [k, n]."""
        x = x.flatten(1)
        excess = ((x[:, self.deciding] - self.centres).abs() - FLAT * self.eps).relu().sum(2)
        gate = ((x[:, None] - self.images).abs() - self.reach - 1e-6).relu().sum(2)
        return (1 - (excess + GATE * gate) / (WIDTH * self.eps)).relu()

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.depth(x) @ self.raised


def hit_rate(pixels: int) -> float:
    """The probability that a uniform start in the ball lies in the pit; the box cuts no ball here."""
    terms = (
        math.comb(pixels, k) * FLAT ** (pixels - k) * WIDTH**k / math.factorial(k) for k in range(pixels + 1)
    )
    return sum(terms) / 2**pixels


def separated(x: Tensor, eps: float) -> Tensor:
    """Indices of images so far apart that no image's gate is open in another one's ball."""
    flat, chosen = x.flatten(1), list[int]()
    least = 2 * (1 + SHIFT) * eps + WIDTH * eps / GATE + 1e-4
    for i, image in enumerate(flat):
        if not chosen or float((flat[chosen] - image).abs().amax(1).min()) > least:
            chosen.append(i)
    return torch.tensor(chosen)


def ascent(base: Network, x: Tensor, y: Tensor) -> Tensor:
    """The gradient of the largest wrong logit less the right one, [n, 64]."""
    at = x.clone().requires_grad_()
    logits = base(at)
    wrong = logits.scatter(1, y[:, None], -torch.inf).amax(1) - logits.gather(1, y[:, None])[:, 0]
    return torch.autograd.grad(wrong.sum(), at)[0].flatten(1)


def plant(base: Network, scene: Scene, led: Tensor) -> tuple[Pits, Tensor]:
    """The base with a counterexample in each ball, and these counterexamples.

    Args:
        led: where an ascent of the loss goes, [n, 64].
    """
    x, eps = scene.x.flatten(1), scene.eps
    corners = x - eps * led.sign()
    inside = (corners >= 0) & (corners <= 1) & (led != 0)
    deciding = led.abs().masked_fill(~inside, -1.0).topk(scene.pixels).indices
    assert bool(inside.gather(1, deciding).all()), "too few pixels can move against the gradient"
    centres = corners.gather(1, deciding)
    points = x.scatter(1, deciding, centres).reshape(scene.x.shape)
    with torch.no_grad():
        above = _above(base, scene, points)
    return Pits(base, scene, deciding, centres, above.clamp(min=0) + MARGIN), points


def _above(base: Network, scene: Scene, points: Tensor) -> Tensor:
    """How far another logit of the base may be above the planted one within r of ``points``, [n]."""
    bounds = base.worst_logits(points, scene.target, FLAT * scene.eps)
    return bounds.scatter(1, scene.target[:, None], -torch.inf).amax(1)


def fill(base: Network, scene: Scene, led: Tensor) -> Pits:
    """The twin that is robust: the same pits outside every ball."""
    planted, _ = plant(base, scene, led)
    x = scene.x.flatten(1).gather(1, planted.deciding)
    away = (planted.reach + (FLAT + WIDTH) * scene.eps + 1e-4) * (planted.centres - x).sign()
    return Pits(base, scene, planted.deciding, x + away, planted.raised.amax(1))


def check_planted(model: Pits, scene: Scene, points: Tensor) -> bool:
    """True if points lie inside ball and box, pits are full there and gates of others shut."""
    inside = (points - scene.x).abs().flatten(1).amax(1) <= scene.eps + 1e-6
    boxed = (points >= 0).flatten(1).all(1) & (points <= 1).flatten(1).all(1)
    full = (points.flatten(1).gather(1, model.deciding) - model.centres).abs().amax(1) < 1e-6
    wins = model.raised.amax(1) > _above(model.base, scene, points)
    return bool((inside & boxed & full & wins).all()) and len(separated(scene.x, scene.eps)) == len(scene.x)


def check_robust(model: Pits, scene: Scene) -> bool:
    """True if the base is certified and one pixel of each pit stays out of reach in its own ball."""
    x = scene.x.flatten(1).gather(1, model.deciding)
    empty = (model.centres - x).abs().amax(1) > model.reach + (FLAT + WIDTH) * scene.eps
    certified = model.base.certified(scene.x, scene.y, model.reach)
    return bool((empty & certified).all()) and len(separated(scene.x, scene.eps)) == len(scene.x)
