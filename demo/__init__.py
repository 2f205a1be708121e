"""The whole story in one go: ``python -m demo``."""
