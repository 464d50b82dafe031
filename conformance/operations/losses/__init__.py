"""Tests of probabilities and losses of section 13. Import conformance/operations, refused, judge and draw."""
