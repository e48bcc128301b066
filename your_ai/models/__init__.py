"""Models: presets, local folders, the Hugging Face Hub, and weight files."""
