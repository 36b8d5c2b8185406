"""Adapters as PEFT and MLX save them: read strictly, and fitted to the base they were trained on."""
