"""Reports of runs: the record, its checks, and what is drawn from it. Imports arbitor/judge/*.py."""
