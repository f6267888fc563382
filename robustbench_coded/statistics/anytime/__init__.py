"""Intervals that stay valid however often one looks: confidence sequences, one kind of value a file."""
