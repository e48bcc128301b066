"""Find out by measurement which language models this machine can fine-tune."""

__version__ = "0.2.0.dev0"
