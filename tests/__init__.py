"""The tests; `python -m tests.run` runs them with ruff and mypy."""
