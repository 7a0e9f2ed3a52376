"""How likely is a text? From ids to log-probabilities, and from sentences to scores."""
