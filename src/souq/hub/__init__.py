"""A hub: model repositories below a folder, as pages for people and by the API that Hugging Face's clients speak.

It is a view with no authority: all it says of models is read from git and the store, and made again when it is lost.
"""
