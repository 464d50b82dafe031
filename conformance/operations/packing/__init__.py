"""Tests of the operations of section 2. Import conformance/operations, judge and draw."""
