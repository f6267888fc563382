"""Coded-smoothing on tables of measurements and on sequences: whether it helps where there are no images."""
