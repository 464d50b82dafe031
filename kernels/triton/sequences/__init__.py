"""Section 13: what mixes the positions of a sequence. Imports quantise, rows."""
