"""Commands by subject; `gateway.cli` puts them together."""
