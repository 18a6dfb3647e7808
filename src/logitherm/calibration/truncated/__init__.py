"""Answers of which only the largest log-probabilities are known."""
