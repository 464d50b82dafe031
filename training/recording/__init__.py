"""What a run writes while it goes on: its folder, lines, digests, picture, progress. Imports tasks."""
