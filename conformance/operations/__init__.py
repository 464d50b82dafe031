"""Tests of every operation, a family a folder, and of what all share. Imports judge, draw and the oracle."""
