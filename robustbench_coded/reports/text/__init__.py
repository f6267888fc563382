"""Wording: numbers, names and threat models as text, plain tables, escaping."""
