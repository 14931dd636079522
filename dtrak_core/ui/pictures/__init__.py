"""What the page Add pictures is made of."""
