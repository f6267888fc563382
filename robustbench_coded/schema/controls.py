"""Rows of every run that are not attacks: controls, and rows that are counted from several attacks."""

CLEAN = "clean"
RANDOM_SIGN = "random-sign"
CONTROLS = (CLEAN, RANDOM_SIGN)

STRONGEST = "strongest"
ENSEMBLE = "ensemble"
NAIVE_MIN = "naive-min"
COMBINED = (STRONGEST, ENSEMBLE, NAIVE_MIN)

STANDARD = "standard"  # the defence that is none: the checkpoint's own answers
