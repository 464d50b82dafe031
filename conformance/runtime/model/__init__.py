"""Tests of ARBModel: what it is made of, its experts, streams and kinds of data."""
