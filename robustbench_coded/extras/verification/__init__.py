"""Scores perturbed inputs again, from files alone: those of a run, and those that any other tool made."""
