"""What the Doctor page is made of."""
