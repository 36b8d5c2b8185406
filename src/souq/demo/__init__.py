"""The whole road, played on a real model: who comes (story), what they teach (skills), what it looks like (page)."""
