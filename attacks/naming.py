"""The names of attacks: ``[estimator-]algorithm[-steps][@step_size]``, for example ``eot10-pgd-20@1/255``."""
