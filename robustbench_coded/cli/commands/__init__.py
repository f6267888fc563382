"""The commands by topic; each imports what it needs when it runs: ``--help`` answers at once."""
