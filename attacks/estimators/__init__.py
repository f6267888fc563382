"""Loss and gradient of a target as an attacker sees them: one file per kind of attacker knowledge."""

from attacks.estimators.averaging import Estimate, Estimator
from attacks.estimators.base_model import Bpda, Transfer
from attacks.estimators.draws import FixedDraw, FreshDraws, KnownDraw

__all__ = [
    "Bpda",
    "Estimate",
    "Estimator",
    "FixedDraw",
    "FreshDraws",
    "KnownDraw",
    "Transfer",
]
