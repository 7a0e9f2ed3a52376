"""The network: its layers, weights from another model, and one step at a time for writing."""
