"""Tests of the trainers, their data and loss bands. Imports judge, runtime, tools and the trainers."""
