"""What the Benchmark page is made of."""
