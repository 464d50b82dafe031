"""Tests of the tests: that the strategies reach the edges, that the comparison sees one bit, that lies are
caught.
"""
