"""Tests of heads, attention and rotary angles. Import conformance/operations, judge and draw."""
