"""What the Counterfactual page is made of."""
