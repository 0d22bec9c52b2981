"""Side-by-side timing of ``depthwise`` and the libraries that also ship this layer.

See ``README.md`` in this folder for the method and the commands.
"""
