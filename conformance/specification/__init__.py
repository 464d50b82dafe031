"""Tests that words, reference, oracle and tables agree. Imports judge, draw, operations and oracle."""
