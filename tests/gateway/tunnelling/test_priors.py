"""What is known beforehand."""

import pytest

from gateway.tunnelling.priors import Popular, Prior, Priors


def test_popular_domains() -> None:
    """Leading, other and unknown domains are told apart."""
    popular = Popular.of(["a.example", "b.example"], ["c.example"])
    assert [popular.prior(name) for name in ("a.example", "c.example", "d.example")] == [
        Prior.LEADING,
        Prior.POPULAR,
        Prior.UNKNOWN,
    ]


def test_patterns() -> None:
    """The configuration comes before the shipped list, and a zone knows whether patterns divide it."""
    priors = Priors(Popular.of([], []), services=["*.look.example.com"], exempt=[".mine.look.example.com"])
    assert priors.of_name("x.look.example.com") is Prior.SERVICE
    assert priors.of_name("x.mine.look.example.com") is Prior.EXEMPT
    assert priors.of_name("www.example.com") is None
    assert priors.divides("example.com")
    assert not priors.divides("example.org")


def test_whose_operator_answers_for_all() -> None:
    """Names of customers are unknown however popular, but not where nobody except the operator sees a question."""
    popular = Popular.of([], ["me.github.io"], ["cloud.example"])
    assert popular.prior("me.github.io") is Prior.UNKNOWN
    assert popular.prior("cloud.example") is Prior.POPULAR
    assert popular.prior("elb.eu.cloud.example") is Prior.POPULAR
    assert popular.prior("notcloud.example") is Prior.UNKNOWN


@pytest.mark.parametrize("pattern", ["*.example.com", "*.www.example.com", ".com", "*.com", "example.com", "*.org"])
def test_a_plain_domain_the_short_way(pattern: str) -> None:
    """What is said of a domain of two labels does not depend on the way it is looked up."""
    priors = Priors(Popular.of(["a.com", "c.com"], ["b.com"], ["c.com"]), [], [pattern])
    for domain in ("a.com", "b.com", "c.com", "d.com", "example.com"):
        assert priors.of_plain(domain) is priors.of_name(domain)
        assert priors.popular.prior_of_plain(domain) is priors.popular.prior(domain)
