"""git over HTTP: repositories cloned, fetched and pushed to, each ref by the rules that its repository has."""
