"""A hub as something that runs for years: settings, processes, logs, figures, health, backups."""
