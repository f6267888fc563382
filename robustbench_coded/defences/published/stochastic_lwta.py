"""Stochastic local winner-takes-all: neighbouring channels compete, a winner is drawn (arXiv 2112.02671)."""

from robustbench_coded.defences.published.record import Record

RECORD = Record(
    title="Stochastic Local Winner-Takes-All Networks Enable Profound Adversarial Robustness",
    arxiv="2112.02671",
    section="3",
    year=2021,
    random="which channel of every pair survives, at every pixel of every layer",
    coupling="",
    claim="76.08% on CIFAR-10 at linf 8/255 under AutoAttack rand, by the log of the authors' WRN-34-1",
    setting="the authors' own weights; the gradient of the paper's relaxation at temperature 0.01 vanishes",
    arch="lwta-",
)
