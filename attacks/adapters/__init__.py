"""Attacks of other packages and of the user's own."""
