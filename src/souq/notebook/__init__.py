"""A model repository for who works in Python: tables as rows, models as transformers', and pictures of changes."""
