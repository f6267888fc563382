"""Wasserstein GANs with coded-smoothing in the generator (Table 2 and Figure 5b of arXiv 2510.00253)."""
