"""csrobust: adversarial robustness evaluation of randomised and batch-dependent defences."""

__version__ = "0.1.0"
