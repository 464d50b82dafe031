"""Section 4: float32 to int8 with power-of-two scales. Imports random_bits, packing."""
