"""From options to outcomes of units, in rooms by who owns the data."""
