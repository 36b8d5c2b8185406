"""The life of a pull request."""
