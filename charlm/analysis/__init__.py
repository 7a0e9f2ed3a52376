"""What a trained network has become, and how models differ: measured, and drawn."""
