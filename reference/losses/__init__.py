"""Section 13: probabilities and losses. Imports rows, quantise."""
