"""How open a model is: what is claimed, what can be verified, by which rubric, and who decides about it."""
