"""Coded smoothing (arXiv:2510.00253): spline encoding and decoding of a batch.

``nodes`` and ``spline`` build the matrices, ``codec`` applies them to tensors, ``sizes`` reads N as users
write it. Needs numpy, scipy and torch alone; nothing is imported here, so that ``sizes`` does not load torch.
"""
