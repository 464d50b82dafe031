"""Tests of the operations of section 6. Import conformance/operations, judge and draw."""
