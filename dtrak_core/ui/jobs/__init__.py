"""What the Jobs page is made of."""
