"""The figures of a report, one kind a file; `draw.figures_of(run)` draws those that a run has data for."""
