"""Tests of calllogd; a package so that all of them can share `tests.fakes`."""
