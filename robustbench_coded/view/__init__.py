"""A page to browse all runs of a folder: filter, compare two, open their reports."""
