"""What may be said of a model by whoever did not make it."""
