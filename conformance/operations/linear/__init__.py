"""Tests of the operations of section 5. Import conformance/operations, judge and draw."""
