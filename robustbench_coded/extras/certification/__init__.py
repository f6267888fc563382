"""Lower bounds on robust accuracy: what no perturbation within eps can do to a defence."""
