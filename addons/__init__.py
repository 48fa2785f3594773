"""mitmproxy addons: thin adapters from flows to requests and from decisions to flows."""
