"""What the numbers of a run mean: intervals, ensembles, verdicts and checks, from data frames alone."""
