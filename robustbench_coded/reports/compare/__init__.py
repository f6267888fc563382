"""Sentences and tables about several runs side by side, and their paired differences."""
