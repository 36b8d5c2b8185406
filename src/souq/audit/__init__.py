"""What can be counted about models from outside: what they cost, who takes them, how open and how alike they are."""
