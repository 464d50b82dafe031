"""Section 7: rows of a ternary table, their gradient and their update. Imports packing, quantise, update."""
