"""From a picture to its feature: draws, model outputs, gradients, projection; and their kernel."""
