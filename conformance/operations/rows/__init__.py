"""Tests of the operations on rows of section 13. Import conformance/operations, judge and draw."""
