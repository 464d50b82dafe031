"""Tests of the operations of section 2. Import conformance/operations, refused, judge and draw."""
