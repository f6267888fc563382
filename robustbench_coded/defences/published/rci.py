"""Randomised coded inference: a batch is encoded in random order, answered and decoded (arXiv 2510.00253)."""

from robustbench_coded.defences.published.record import Record

RECORD = Record(
    title="Coded smoothing and randomised coded inference",
    arxiv="2510.00253",
    section="5",
    year=2025,
    random="the order in which a batch is encoded",
    coupling="every coded input is a combination of all inputs of the batch",
    claim="higher accuracy than standard inference under FGSM and PGD (Table 3)",
    setting="N = K and N = 1.5 K, on the checkpoints of this project",
    spec="rci:N=1.5K",
)
