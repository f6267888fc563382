"""The numbers of arXiv 2510.00253, and a run beside them."""
