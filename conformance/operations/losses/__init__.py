"""Tests of probabilities and losses of section 13. Import conformance/operations, judge and draw."""
