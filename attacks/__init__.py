"""Attacks on tensors, and the estimators they query. Nothing here knows defences, files or reports."""
