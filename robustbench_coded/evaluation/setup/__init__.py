"""What options name, loaded and checked: checkpoints, data, defences, probes."""
