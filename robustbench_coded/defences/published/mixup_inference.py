"""Mixup inference: answers are means over mixtures with images of other classes (arXiv 1909.11515)."""

from robustbench_coded.defences.published.record import Record

RECORD = Record(
    title="Mixup Inference: Better Exploiting Mixup to Defend Adversarial Attacks",
    arxiv="1909.11515",
    section="3",
    year=2020,
    random="the images that are mixed in",
    coupling="",
    claim="higher accuracy than the networks have without it on CIFAR-10 under PGD at linf 8/255",
    setting="15 mixtures (paper: 30) with images of other predicted classes (MI-OL), share 0.5",
    breaks=(("2002.08347", "differentiating through the whole randomised inference undoes the gain"),),
    spec="mixup-inference:share=0.5,samples=15",
)
