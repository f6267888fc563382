"""The time of attacks, compared with the base model alone (`benchmarks/speed`)."""
