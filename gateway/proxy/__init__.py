"""The explicit proxy: a strict listener in front, splicing by default, mitmproxy for what has to be looked into."""
