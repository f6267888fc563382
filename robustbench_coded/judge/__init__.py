"""Statistics of a run: intervals, ensembles, verdicts and checks, from data frames alone."""
