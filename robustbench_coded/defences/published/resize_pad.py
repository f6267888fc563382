"""Random resizing and padding: every input at another size and place (arXiv 1711.01991)."""

from robustbench_coded.defences.published.record import Record

RECORD = Record(
    title="Mitigating Adversarial Effects Through Randomization",
    arxiv="1711.01991",
    section="3",
    year=2018,
    random="the size of every input, and where it lies in the padded image",
    coupling="",
    claim="second of 107 teams in the NIPS 2017 defence competition on ImageNet",
    setting="images shrink to 80% or more and are padded to their old size: a network takes one size",
    breaks=(("1802.00420", "0% on ImageNet at linf 8/255, with gradients averaged over draws"),),
    spec="resize-pad:scale=0.8",
)
