"""What is kept: keys, accounts and boxes, sealed so that only owners can read."""
