"""Adversarial training: on perturbations that PGD finds, the positive control (arXiv 1706.06083)."""

from robustbench_coded.defences.published.record import Record

RECORD = Record(
    title="Towards Deep Learning Models Resistant to Adversarial Attacks",
    arxiv="1706.06083",
    section="2 and 3",
    year=2018,
    random="",
    coupling="",
    claim="over 89% on MNIST at linf 0.3 and 46% on CIFAR-10 at linf 8/255, under PGD",
    setting="checkpoints of this project trained at linf 0.2 on digits and 8/255 on CIFAR-10",
    recipe="pgd-at",
)
