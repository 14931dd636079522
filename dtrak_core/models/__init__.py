"""Diffusion models: denoisers and their files, samplers, checkpoints, targets."""
