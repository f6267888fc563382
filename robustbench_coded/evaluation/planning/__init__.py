"""Planning: cases, batches, units and their identities, known before anything runs."""
