"""Defences: the protocol, standard, coded and randomised coded inference, baselines, user
defences.
"""
