"""Judging a backend: verify, vectors, waivers, reports, mutants. Imports arbitor/ and kernels."""
