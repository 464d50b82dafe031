"""Section 13: what a model does with rows between its layers. Imports quantise."""
