"""Power of the attacks of a run: weaknesses planted into its own defences."""
