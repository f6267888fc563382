"""What is said of several runs side by side, and of their paired differences."""
