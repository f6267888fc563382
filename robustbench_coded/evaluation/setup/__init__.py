"""Setup: checkpoints, data, defences and probes that options name, loaded and checked."""
