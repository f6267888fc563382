"""Parts of a run as validated data: threat models, identities of cases, run.json, fixed words."""
