"""Tests of the operations of section 4. Import conformance/operations, judge and draw."""
