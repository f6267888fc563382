"""``python -m benchmarks.bench``: the time of attacks, compared with the bare network."""
