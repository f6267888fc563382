"""A defence runs as it is; operators that saturate, cut or choose have a smooth backward.

One family of operators a file; ``relaxation.py`` puts them together.
"""

from attacks.relaxation.record import Met, Record
from attacks.relaxation.relaxation import LEVELS, Relaxation

__all__ = ["LEVELS", "Met", "Record", "Relaxation"]
