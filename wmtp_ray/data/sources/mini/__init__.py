"""A small data set of Python programs whose labels are found by running tests."""
