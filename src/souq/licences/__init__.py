"""What licences ask and allow, over everything a model is made of: a reviewed table, clause by clause; never legal advice."""
