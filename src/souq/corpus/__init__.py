"""What a release writes for others to train on: prompts in, checked rows with their provenance out (make)."""
