"""Published defences, a plug-in, by family: a record of what its paper says, and a re-implementation."""
