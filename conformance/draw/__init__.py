"""Arguments for every operation, legal and illegal, and recipes of the vectors. Imports judge.target."""
