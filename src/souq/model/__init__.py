"""A model's folder, as others write it."""
