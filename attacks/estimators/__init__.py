"""Loss and gradient of a target as an attacker sees them: by what the attacker knows."""

from attacks.estimators.averaging import Estimate, Estimator, FixedDraw, FreshDraws, KnownDraw
from attacks.estimators.base_model import Bpda, Transfer

__all__ = [
    "Bpda",
    "Estimate",
    "Estimator",
    "FixedDraw",
    "FreshDraws",
    "KnownDraw",
    "Transfer",
]
