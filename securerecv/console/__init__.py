"""A receiver for one person at one terminal."""
