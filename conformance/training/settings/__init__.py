"""Tests of command lines, and of what a checkpoint decides where they are silent. Imports training/*.py."""
