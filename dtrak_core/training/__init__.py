"""Training on any part of a dataset: steps, state, presets, ensembles."""
