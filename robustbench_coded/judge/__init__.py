"""Statistics of a run: intervals, ensembles, verdicts and checks, computed from data frames."""
