"""A battery of known bypasses, tried against any proxy: what an attacker would send, and where it must not arrive."""
