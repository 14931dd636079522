"""D-TRAK Studio's core: attribution of a diffusion model's pictures to its training pictures.

Nothing is imported here, so that the pages can use the light modules without torch.
"""

__version__ = "0.1.0"
