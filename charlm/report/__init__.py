"""The report of a run: one HTML file that carries the model and what was measured of it."""
