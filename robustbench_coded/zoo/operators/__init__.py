"""Defences that hide their gradient in one operator each, and as robust as their margins are."""
