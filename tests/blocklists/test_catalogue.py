"""The catalogues: complete, consistent, and silent until somebody asks."""

import re
from pathlib import Path

import pytest

from gateway.feeds.catalog import Feed, load_catalog
from gateway.feeds.formats import FORMATS

BLOCKLISTS = Path(__file__).parents[2] / "blocklists"
FEEDS = load_catalog(BLOCKLISTS / "feeds.yaml")
SEEDS = load_catalog(BLOCKLISTS / "seed.yaml")
ALL = {**FEEDS, **SEEDS}
HEADER = (BLOCKLISTS / "feeds.yaml").read_text("utf-8").partition("\n\n")[0]
CATEGORIES = set(re.findall(r"(?:^#   |  )([a-z][a-z0-9-]+)  +\S", HEADER, re.MULTILINE))

feeds = pytest.mark.parametrize(("name", "feed"), ALL.items(), ids=ALL)


def test_names_do_not_collide() -> None:
    """Both catalogues can be used together."""
    assert len(ALL) == len(FEEDS) + len(SEEDS)


@feeds
def test_names_are_kebab_case(name: str, feed: Feed) -> None:
    """A feed's name is a word for rules, metrics and folders."""
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)


@feeds
def test_feeds_are_complete(name: str, feed: Feed) -> None:
    """A feed says what it is, whose terms it has, how often it may be asked for, and what is too little of it."""
    assert feed.about.endswith(".")
    assert feed.license
    assert feed.terms
    assert {"interval", "limits", "enabled"} <= feed.model_fields_set
    assert {"max_bytes", "min_entries", "max_shrink", "max_growth"} == feed.limits.model_fields_set
    assert feed.format in FORMATS


@feeds
def test_categories_are_known(name: str, feed: Feed) -> None:
    """A feed has categories from the table, unless it is there to keep names from being denied."""
    assert bool(feed.categories) != feed.never_block
    assert set(feed.categories) <= CATEGORIES


def test_the_table_holds_no_others() -> None:
    """Every category in the table is one that some feed has."""
    assert {category for feed in ALL.values() for category in feed.categories} == CATEGORIES


def test_nothing_is_fetched_unasked() -> None:
    """A fresh checkout works without a network: published lists are off, the seed lists are on."""
    assert not any(feed.enabled for feed in FEEDS.values())
    assert all(feed.enabled and not feed.urls for feed in SEEDS.values())


def test_feeds_come_encrypted() -> None:
    """No list is fetched in the clear, and no address is given twice."""
    urls = [url for feed in FEEDS.values() for url in feed.urls]
    assert all(url.startswith("https://") for url in urls)
    assert len(urls) == len(set(urls))
