"""Tests of the record, page and badge of a run. Imports arbitor.judge.report only."""
