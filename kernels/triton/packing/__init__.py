"""Section 2: trits to bytes and back. Imports nothing of the other families."""
