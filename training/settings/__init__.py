"""What a command line says, and what a checkpoint says where that is silent. Imports tasks, recording."""
