"""What a plain `pytest` leaves out: the tests of the frameworks, which `make test` runs in processes of their own."""

_FRAMEWORKS = ("jax", "keras", "tensorflow", "torch")

collect_ignore = ["tests/frameworks"]
for _framework in _FRAMEWORKS:
    collect_ignore += [f"tests/{_framework}", f"src/depthwise/{_framework}", f"docs/{_framework}.md"]
