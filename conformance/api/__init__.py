"""Ternary layers in a model of one's own. Imports conformance/judge, machine and the API."""
