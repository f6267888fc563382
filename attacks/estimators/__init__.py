"""Loss and gradient of a target as an attacker sees them: one file per kind of attacker knowledge."""

from attacks.estimators.auto import EotAuto
from attacks.estimators.bpda import Bpda
from attacks.estimators.collected import CollectedDraws
from attacks.estimators.estimate import Estimate, Estimator
from attacks.estimators.known_draw import KnownDraw
from attacks.estimators.transfer import Transfer
from attacks.estimators.unknown_draw import FixedDraw, FreshDraws

__all__ = [
    "Bpda",
    "CollectedDraws",
    "EotAuto",
    "Estimate",
    "Estimator",
    "FixedDraw",
    "FreshDraws",
    "KnownDraw",
    "Transfer",
]
