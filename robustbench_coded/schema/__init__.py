"""What a run is made of, as validated data: threat models, identities of cases, run.json, fixed words."""
