"""Accuracy under covariate shift: corrupted test sets, published ones, and the report on them (Table 5)."""
