"""Options as plain data, their checks and their defaults."""
