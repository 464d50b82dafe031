"""Tests of the trainers, their data and loss bands. Imports judge, machine and the trainers."""
