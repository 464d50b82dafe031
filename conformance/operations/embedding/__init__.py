"""Tests of the operations of section 7. Import conformance/operations, refused, judge and draw."""
