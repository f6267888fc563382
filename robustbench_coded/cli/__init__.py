"""The commands: each parses its options, calls one documented function and prints."""
