"""What the attacks of a run would have found: weaknesses planted into its own defences."""
