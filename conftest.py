"""Stories and attacks share one bazaar; git knows nobody but who they say; laws are not timed, since machines differ."""

import os

from hypothesis import settings

pytest_plugins = ["tests.annals", "tests.bazaar", "tests.kitchen"]
settings.register_profile("souq", deadline=None)
settings.load_profile("souq")

os.environ |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
os.environ |= {f"GIT_{role}_NAME": "tests" for role in ("AUTHOR", "COMMITTER")}
os.environ |= {f"GIT_{role}_EMAIL": "tests@souq.example" for role in ("AUTHOR", "COMMITTER")}
