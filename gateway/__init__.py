"""The egress gateway: one policy, enforced by a proxy and a resolver, recorded in one ledger."""

__version__ = "0.1.0"
