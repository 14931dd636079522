"""Removing, retraining, regenerating: comparisons, their entries, and what they say."""
