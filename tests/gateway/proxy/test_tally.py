"""What the proxy counts of tunnels."""

from dataclasses import dataclass

from gateway.proxy.tally import Tally


@dataclass(eq=False)
class Tunnel:
    """A tunnel that has moved so much."""

    octets_out: int = 0
    octets_in: int = 0


def test_octets_count_while_a_tunnel_is_open() -> None:
    """They are those of open tunnels and of all before; a tunnel that ends takes none away, and ends once."""
    tally, tunnel, other = Tally(), Tunnel(), Tunnel(1, 2)
    tally.splice(tunnel)
    tally.splice(other)
    tunnel.octets_out, tunnel.octets_in = 10, 20
    assert (tally.spliced, tally.splicing, tally.moved()) == (2, 2, (11, 22))
    for _ in range(2):
        tally.unsplice(tunnel)
    tunnel.octets_in = 99
    assert (tally.spliced, tally.splicing, tally.moved()) == (2, 1, (11, 22))


def test_an_inspected_tunnel_ends_once() -> None:
    """However often it is told."""
    tally = Tally()
    over = tally.inspect()
    assert (tally.inspected, tally.inspecting) == (1, 1)
    over()
    over()
    assert (tally.inspected, tally.inspecting) == (1, 0)
