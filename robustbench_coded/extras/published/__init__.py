"""Published defences, an extension, by family: a record of what its paper says, and a re-implementation."""
