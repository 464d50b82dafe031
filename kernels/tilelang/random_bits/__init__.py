"""Section 3: words of Philox, and the first codes drawn from them. Imports packing."""
