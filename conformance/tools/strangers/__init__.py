"""Strangers' modules in a process of their own."""
