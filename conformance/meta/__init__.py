"""Tests of the tests. Imports judge, draw, machine, operations, training, tools and cheats.

That the strategies reach the edges, that the comparison sees one bit, that lies are caught.
"""
