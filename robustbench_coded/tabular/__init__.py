"""Coded-smoothing on tables of measurements: whether it helps where there are no images."""
