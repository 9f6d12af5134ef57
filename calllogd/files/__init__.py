"""Files that other programs write, and calllogd reads while they grow."""
