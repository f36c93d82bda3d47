"""Checkpoint files and our names for what they hold, from one table in both directions."""
