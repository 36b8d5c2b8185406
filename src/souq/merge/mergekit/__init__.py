"""mergekit's configurations: whole checkpoints merged from folder to folder, without a repository."""
