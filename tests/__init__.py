"""The tests. A package, so that they can share helpers from wherever pytest is started."""
