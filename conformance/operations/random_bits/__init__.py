"""Tests of the operations of section 3. Import conformance/operations, judge and draw."""
