"""What people look at: the pages of one repository, which a hub serves and `souq report` writes, and those of a hub."""
