"""Tests that specification, reference, oracle and tables are one thing. Imports every room."""
