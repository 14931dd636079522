"""What the Credit page is made of."""
