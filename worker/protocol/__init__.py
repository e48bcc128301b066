"""The protocol between parent and worker: the messages and their encoding as JSON lines."""
