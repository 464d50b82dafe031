"""`arbitor fuzz` and `arbitor replay`, and their tests. Imports judge, draw and machine."""
