"""GGUF, llama.cpp's format: read, written, and its vocabulary made a tokenizer, by one table of architectures."""
