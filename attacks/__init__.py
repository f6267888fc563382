"""Attacks as functions of tensors: they know estimators and budgets, never defences, files or reports."""
