"""Tests of the operations of section 7. Import conformance/operations, judge and draw."""
