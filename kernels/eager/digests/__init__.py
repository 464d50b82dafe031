"""Section 14: digests of rows of words. Imports rows."""
