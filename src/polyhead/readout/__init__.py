"""Vectors become answers."""
