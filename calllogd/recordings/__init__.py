"""Recordings: fetched, kept as files, given out by signed links, and deleted when their time is over."""
