"""Tests of digests, section 14. Import conformance/operations, judge and draw."""
