"""A target seen through what the attacker knows: one kind of knowledge a file."""

from attacks.estimators.auto import EotAuto
from attacks.estimators.bpda import Bpda
from attacks.estimators.collected import Collected
from attacks.estimators.estimate import Estimate, Estimator
from attacks.estimators.known import Known
from attacks.estimators.transfer import Transfer
from attacks.estimators.unknown import Fixed, Fresh

__all__ = ["Bpda", "Collected", "EotAuto", "Estimate", "Estimator", "Fixed", "Fresh", "Known", "Transfer"]
