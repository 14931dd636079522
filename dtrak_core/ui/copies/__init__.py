"""What the Copies page is made of."""
