"""A real training: from measured results to adapters, through failures."""
