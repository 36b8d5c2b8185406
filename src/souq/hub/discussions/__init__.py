"""What people say to each other on a hub: signed by nobody, and never a vote."""
