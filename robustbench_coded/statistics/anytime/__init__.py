"""Intervals that stay right however often somebody looks: confidence sequences, one kind of value a file."""
