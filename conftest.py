"""Stories and attacks share one bazaar."""

pytest_plugins = ["tests.bazaar"]
