"""Section 6: votes, fires and scale votes. Imports packing, random_bits, quantise, linear."""
