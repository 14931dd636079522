"""What the Generate page is made of."""
