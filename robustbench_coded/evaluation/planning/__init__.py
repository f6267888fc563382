"""What will be computed, known before anything runs: cases, batches, units and their identities."""
