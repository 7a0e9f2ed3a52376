"""What a trained network has become: measured, and drawn."""
