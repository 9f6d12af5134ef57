"""What calllogd does with calls: one module per verb."""
