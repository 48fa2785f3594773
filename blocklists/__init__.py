"""Catalogues of block lists (`feeds.yaml`, `seed.yaml`) and the lists kept by hand (`seed/`): data, no code."""
