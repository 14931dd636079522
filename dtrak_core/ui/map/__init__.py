"""Pieces of the Map page."""
