"""Attacks of other packages under our protocol: one package a file, imported only when it is run."""
