"""Tests of heads and attention of section 13. Import conformance/operations, judge and draw."""
