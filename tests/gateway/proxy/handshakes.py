"""TLS handshakes in memory, for tests of what comes before and after them."""

from OpenSSL import SSL


def shake_hands(client: SSL.Connection, server: SSL.Connection) -> None:
    """Let both sides say what they have to, until neither has more.

    Raises:
        SSL.Error: one of them does not want the other.
    """
    client.set_connect_state()
    server.set_accept_state()
    for _ in range(4):
        for one, other in ((client, server), (server, client)):
            try:
                one.do_handshake()
            except SSL.WantReadError:
                pass
            try:
                other.bio_write(one.bio_read(65536))
            except SSL.WantReadError:
                pass
