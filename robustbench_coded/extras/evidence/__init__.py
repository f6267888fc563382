"""Evidence against a refuted claim: all that a sceptic needs, and a script without this project."""
