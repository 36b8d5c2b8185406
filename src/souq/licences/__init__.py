"""What licences ask and allow, over everything a model is made of, clause by clause; never legal advice."""
