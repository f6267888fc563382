"""Weights that other authors published with a proof or a figure, for `published_weights.py`.

Where the files come from, which network each makes, and what others established about it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from benchmarks.peers.published_networks import (
    lenet5,
    lwta_sbp,
    mmr_universal,
    projected_resnet,
    raghunathan,
    wong_kolter,
)
from benchmarks.peers.synthesis import synthesis

EXAMPLES, FEWER = 256, 128  # images; more where the truth is that of the tightest bounds
SLOW, SLOW_BATCH = 64, 16  # images, and images per batch, where one answer takes a tenth of a second

# Folder of --weights: repository and commit. File: path there, and the first 16 digits of its sha256.
REPOSITORIES = {
    "MIPVerify_data": "vtjeng/MIPVerify_data 35578a1",
    "mmr-universal": "fra31/mmr-universal 3eba567",
    "advertorch": "BorealisAI/advertorch e063e34",
    "bnn-verification": "msakai/bnn-verification d42a828",
    "advrob-cifar10": "EhanW/advrob-cifar10 4f92f13",
    "lwta-sbp": "antonyalexos/LWTA-SBP-Adversarial-Robustness-DNN 09914c8",
    "AnalysisBySynthesis": "bethgelab/AnalysisBySynthesis daa5a3d",
}
WONG_KOLTER = "MIPVerify_data/master_seed_1_epochs_100.pth"
MMR_MNIST = "mmr-universal/mmr_univ_mnist_gammas_1.0_0.175_lambdas_3.0_12.0.mat"
MMR_CIFAR = "mmr-universal/mmr_univ_cifar10_gammas_6.0_6.0_lmabdas_1.0_6.0.mat"
ADVERSARIAL, PLAIN = "advertorch/mnist_lenet5_advtrained.pt", "advertorch/mnist_lenet5_clntrained.pt"
RESNET, LWTA = "advrob-cifar10/resnet20_pgd.pth", "lwta-sbp/softmax_baseline_CIFAR10_final.pkl"
SYNTHESIS = (
    "7e824714475516ff", "84d13bf9f97194c2", "206904c278bb4255", "144cafe539b528de", "7e2c626b8b52f545",
    "41ed13bfc331965e", "f8b8a6e440ee99e0", "02135d7215afa1a1", "cccd26a1d64ed713", "bb45e988ba1e33cd",
)  # fmt: skip
FILES = {
    WONG_KOLTER: ("weights/mnist/WK17a/linf0.1", "665cce40af979286"),
    "MIPVerify_data/W1.npy": ("weights/mnist/RSL18a/linf0.1", "074e6d3f6e2e9a3d"),
    "MIPVerify_data/W2.npy": ("weights/mnist/RSL18a/linf0.1", "b6a3fc8aca69afd8"),
    "MIPVerify_data/B1.npy": ("weights/mnist/RSL18a/linf0.1", "82e61ae93e229c82"),
    "MIPVerify_data/B2.npy": ("weights/mnist/RSL18a/linf0.1", "c6fcf4acc1f5f4fb"),
    MMR_MNIST: ("models", "0aad3eaeb2acd498"),
    MMR_CIFAR: ("models", "e5ad5bcbeafaa21c"),
    ADVERSARIAL: ("advertorch_examples/trained_models", "b89abfcfe8b33235"),
    PLAIN: ("advertorch_examples/trained_models", "551a11267982991f"),
    RESNET: ("pretrained", "e82e8084fb081b84"),
    LWTA: ("models", "f0174322d2f6e690"),
    **{
        f"AnalysisBySynthesis/ABS_{i}.net": ("exp/VAE_swarm_MSE/nets", digest)
        for i, digest in enumerate(SYNTHESIS)
    },
    "bnn-verification/mnist.npz": ("models", "17ae4f489516b64b"),
    "bnn-verification/mnist_rot.npz": ("models", "ef6e840027f13e27"),
    "bnn-verification/mnist_back_image.npz": ("models", "73a58357000c7cad"),
    "bnn-verification/images/bnn_mnist_rot_8_label1.png": ("images", "d1aa53d7217ae880"),
    "bnn-verification/images/bnn_mnist_rot_16_label5.png": ("images", "94fde8458a63060e"),
    "bnn-verification/images/bnn_mnist_back_image_32_label3.png": ("images", "bad9b353f4052dd4"),
    "bnn-verification/images/bnn_mnist_back_image_73_label5.png": ("images", "7cb16f62d68d0a1b"),
}


@dataclass(frozen=True)
class Network:
    """Published weights, and what is known of their robust accuracy.

    Attributes:
        low, high: bounds on robust accuracy that others established. by: how they did.
    """

    name: str
    file: str
    build: Callable[[Any], nn.Module]
    data: str
    norm: str
    eps: str
    low: float
    high: float
    by: str

    @property
    def examples(self) -> int:
        return EXAMPLES if self.by is MIP else FEWER


@dataclass(frozen=True)
class Claim:
    """Weights with a robust accuracy that their authors claim.

    Attributes:
        claim: the accuracy. by: the attack that it was measured under. of: the model of the claim, where it
            is another one.
        space: the unit of the radius: "pixel", or "normalized" (multiplied by each channel's deviation).
        time: seconds after which the run stops; 0 for no limit.
    """

    name: str
    file: str
    build: Callable[[Any], nn.Module]
    claim: float
    by: str
    space: str = "pixel"
    data: str = "cifar10"
    norm: str = "linf"
    eps: str = "8/255"
    time: float = 0
    of: str = ""

    @property
    def budget(self) -> str:
        unit = " of normalised pixels" if self.space == "normalized" else ""
        return f"{self.norm}, {self.eps}{unit}"

    @property
    def options(self) -> dict[str, Any]:
        """Of the plain command."""
        named = {"norm": self.norm, "eps": self.eps, "eps_space": self.space, "claim": self.claim}
        slow = {"batch_size": SLOW_BATCH, "time": self.time}
        return named | (slow if self.time else {})


@dataclass(frozen=True)
class Image:
    """An image, and the least norm that changes a binarised network's answer, which solvers proved.

    Attributes:
        least: in the norm's own unit, of pixels from 0 to 255 for all but l0; squared in l2.
    """

    model: str
    number: int
    label: int
    norm: str
    least: int

    @property
    def name(self) -> str:
        return f"{self.model}-{self.number}-{self.norm}"

    @property
    def eps(self) -> float:
        """The radius at which the answer changes, in pixels of [0, 1]; a hair more, for float32."""
        if self.norm == "l0":
            return self.least
        return (self.least**0.5 if self.norm == "l2" else self.least) / 255 * (1 + 1e-5)


MIP, MMR = (
    "mixed-integer programs (1711.07356)",
    "attacks, certificates and mixed-integer programs (1905.11213)",
)
FAB = "DDN with 1,000 steps breaks half of the images that it answers rightly there"
UNION_MNIST, UNION_CIFAR = (0.792, 0.9696), (0.354, 0.5304)
ROWS = (
    Network("WK17a", WONG_KOLTER, wong_kolter, "mnist", "linf", "0.1",
            0.9562, 0.9562, MIP),
    Network("RSL18a", "MIPVerify_data/W1.npy", raghunathan, "mnist", "linf", "0.1", 0.6919, 0.8564, MIP),
    *(Network(f"MMR-Universal MNIST {n}", MMR_MNIST, mmr_universal, "mnist", n, e, *UNION_MNIST, MMR)
      for n, e in (("linf", "0.1"), ("l2", "0.3"), ("l1", "1"))),
    *(Network(f"MMR-Universal CIFAR-10 {n}", MMR_CIFAR, mmr_universal, "cifar10", n, e, *UNION_CIFAR, MMR)
      for n, e in (("linf", "2/255"), ("l2", "0.1"), ("l1", "2"))),
    Network("LeNet5 adversarial linf", ADVERSARIAL, lenet5, "mnist", "linf", "0.3", 0, 0.9193,
            "PGD-40 breaks 6.8% of the 98.64% that are answered rightly"),
    Network("LeNet5 adversarial l2", ADVERSARIAL, lenet5, "mnist", "l2", "1.872", 0, 0.4932, FAB),
    Network("LeNet5 plain linf", PLAIN, lenet5, "mnist", "linf", "0.3", 0, 0, "PGD-40 breaks 100%"),
    Network("LeNet5 plain l2", PLAIN, lenet5, "mnist", "l2", "1.388", 0, 0.4945, FAB),
)  # fmt: skip
PGD_20 = "PGD-20 on normalised images (README and train.py)"
CLAIMS = (
    Claim("ResNet-20, pixels", RESNET, projected_resnet, 0.697, PGD_20),
    Claim("ResNet-20, normalised", RESNET, projected_resnet, 0.697, PGD_20, "normalized"),
    Claim("LWTA-SBP softmax", LWTA, lwta_sbp, 0.83, "PGD-200 (results/, U = 2)"),
    *(
        Claim(f"{'binary ' * binary}ABS, {steps} steps, {norm}", "AnalysisBySynthesis/ABS_0.net",
              partial(synthesis, steps=steps, binary=binary), claim, "all attacks of the paper", "pixel",
              "mnist", norm, eps, seconds, of)
        for steps, seconds, of in ((50, 900, ""), (5, 420, " with 50 steps"))
        for binary, norm, eps, claim in (
            (False, "linf", "0.3", 0.08), (False, "l2", "1.5", 0.80), (False, "l0", "12", 0.78),
            (True, "linf", "0.3", 0.77), (True, "l2", "1.5", 0.39), (True, "l0", "12", 0.82),
        )
    ),
)  # fmt: skip
LEAST = {  # l0, l1, l2 squared, linf; `logs/exact`, "OPTIMUM FOUND" for each
    ("mnist", 7, 9): (4, 5, 5, 1),
    ("mnist_rot", 8, 1): (3, 3, 3, 1),
    ("mnist_rot", 16, 5): (2, 2, 2, 1),
    ("mnist_back_image", 32, 3): (2, 4, 7, 2),
    ("mnist_back_image", 73, 5): (2, 9, 27, 4),
}
IMAGES = [
    Image(*key, norm, least)
    for key, values in LEAST.items()
    for norm, least in zip(("l0", "l1", "l2", "linf"), values, strict=True)
]
