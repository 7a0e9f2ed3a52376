"""How a model learns: budget, optimiser and schedule, the loop, and what it saves."""
