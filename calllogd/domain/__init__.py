"""What a call is and what is to be done with it: pure, without clock, network or disk."""
