"""Start, watch and end a worker process, and classify how it ended."""
