"""What the page Add a model is made of."""
