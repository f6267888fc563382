"""The protocol: a table of rungs, and a pure function that says which step is next."""
