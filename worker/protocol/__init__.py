"""The protocol between parent and worker: messages, and their form as JSON lines."""
