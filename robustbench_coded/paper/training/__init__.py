"""Training of checkpoints to compare: ERM, mixup, manifold mixup, coded-smoothing, PGD adversarial."""
