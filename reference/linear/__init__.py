"""Section 5: the three products of a ternary linear layer. Imports packing, quantise."""
