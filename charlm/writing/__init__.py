"""What is written, measured: its words, its repetitions, and what of it stands in the training text."""
