"""The experts: models that each predict the next symbol, and the mixture that multiplies their predictions."""
