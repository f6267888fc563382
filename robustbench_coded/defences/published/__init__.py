"""Published defences, one a file: a record of what its paper says, and a re-implementation."""
