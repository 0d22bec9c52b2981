"""Several frameworks in one process, the examples, and what the README says of them."""
