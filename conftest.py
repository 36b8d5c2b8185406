"""Stories and attacks share one bazaar; laws are not timed, since machines differ."""

from hypothesis import settings

pytest_plugins = ["tests.bazaar"]
settings.register_profile("souq", deadline=None)
settings.load_profile("souq")
