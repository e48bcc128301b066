"""Models: presets, folders, the Hugging Face Hub, and their weight files."""
