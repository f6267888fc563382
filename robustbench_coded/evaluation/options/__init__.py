"""What was asked for: options as plain data, their checks and their defaults."""
