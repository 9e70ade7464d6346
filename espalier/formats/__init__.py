"""Dataset formats and file containers: detection, reading and writing.

`read` and `write` are what the stages call; `files` reads rows of any container; each
format (alpaca, sharegpt, …) is described in a module of its own; `detect` tells them apart.
"""
