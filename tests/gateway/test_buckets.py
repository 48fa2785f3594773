"""Buckets: every form of URL, and what is not one bucket."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.buckets import buckets_of, parse_bucket


def told(url: str) -> frozenset[str]:
    """Return what a URL without its scheme speaks of."""
    host, slash, rest = url.partition("/")
    path, _, query = rest.partition("?")
    return buckets_of(host, slash + path, query)


S3 = [
    "b-1.s3.amazonaws.com/x",
    "b-1.s3.us-east-1.amazonaws.com/x",
    "b-1.s3-us-west-2.amazonaws.com/x",
    "b-1.s3.dualstack.eu-central-1.amazonaws.com/x",
    "b-1.s3-fips.us-gov-west-1.amazonaws.com/x",
    "b-1.s3-fips.dualstack.us-east-2.amazonaws.com/x",
    "b-1.s3-fips-us-gov-west-1.amazonaws.com/x",
    "b-1.s3-accelerate.amazonaws.com/x",
    "b-1.s3-accelerate.dualstack.amazonaws.com/x",
    "b-1.s3-website-us-east-1.amazonaws.com/x",
    "b-1.s3-website.eu-central-1.amazonaws.com/x",
    "b-1.s3.cn-north-1.amazonaws.com.cn/x",
    "b-1.s3express-usw2-az1.us-west-2.amazonaws.com/x",
    "b-1.s3.eusc-de-east-1.amazonaws.eu/x",
    "b-1.s3-external-1.amazonaws.com/x",
    "s3.amazonaws.com/b-1/x",
    "s3.amazonaws.com/b-1",
    "s3.amazonaws.com/b-1?list-type=2",
    "s3.us-east-1.amazonaws.com/b-1/x",
    "s3-us-west-2.amazonaws.com/b-1/x",
    "s3.dualstack.ap-northeast-1.amazonaws.com/b-1/x",
    "s3-fips.us-east-1.amazonaws.com/b-1/x",
    "s3-external-1.amazonaws.com/b-1/x",
    "s3.cn-northwest-1.amazonaws.com.cn/b-1/x",
]
GCS = [
    "storage.googleapis.com/b-1/x",
    "storage.googleapis.com/b-1",
    "b-1.storage.googleapis.com/x",
    "b-1.commondatastorage.googleapis.com/x",
    "commondatastorage.googleapis.com/b-1/x",
    "storage-download.googleapis.com/b-1/x",
    "storage.mtls.googleapis.com/b-1/x",
    "storage.me-central2.rep.googleapis.com/b-1/x",
    "storage.cloud.google.com/b-1/x",
    "storage.googleapis.com/storage/v1/b/b-1/o/x",
    "storage.googleapis.com/storage/v1/b/b-1",
    "storage.googleapis.com/download/storage/v1/b/b-1/o/x?alt=media",
    "storage.googleapis.com/upload/storage/v1/b/b-1/o?uploadType=media",
    "storage.googleapis.com/resumable/upload/storage/v1/b/b-1/o",
    "www.googleapis.com/storage/v1/b/b-1/o/x",
    "www.googleapis.com/upload/storage/v1/b/b-1/o",
    "firebasestorage.googleapis.com/v0/b/b-1/o/x",
]
AZURE = [
    "acme.blob.core.windows.net/logs/x",
    "acme.blob.core.windows.net/logs/a/b",
    "acme.blob.core.windows.net/logs?restype=container&comp=list",
    "acme.blob.core.windows.net/logs?comp=list&RESTYPE=%63ontainer",
    "acme-secondary.blob.core.windows.net/logs/x",
    "acme.dfs.core.windows.net/logs",
    "acme.dfs.core.windows.net/logs/x",
    "acme-secondary.dfs.core.windows.net/logs/x",
    "acme.blob.core.usgovcloudapi.net/logs/x",
    "acme.blob.core.chinacloudapi.cn/logs/x",
    "acme.z01.blob.storage.azure.net/logs/x",
]
SPECIAL = {
    "my.dotted.bucket.s3.amazonaws.com/x": {"s3:my.dotted.bucket"},
    "s3.evil.s3.amazonaws.com/x": {"s3:s3.evil"},
    "ap-123456789012.s3-accesspoint.us-east-1.amazonaws.com/x": {"s3:accesspoint/ap-123456789012"},
    "ap-123456789012.s3-accesspoint.dualstack.us-east-1.amazonaws.com/x": {"s3:accesspoint/ap-123456789012"},
    "abc123.mrap.accesspoint.s3-global.amazonaws.com/x": {"s3:accesspoint/abc123.mrap"},
    "my.bucket.storage.googleapis.com/x": {"gcs:my.bucket"},
    "acme.blob.core.windows.net/": {"azure:acme"},
    "acme.blob.core.windows.net/?comp=list": {"azure:acme"},
    "acme.blob.core.windows.net/logs": {"azure:acme", "azure:acme/$root"},
    "acme.z13.web.core.windows.net/logs/x": {"azure:acme", "azure:acme/$web"},
    "acme.blob.core.windows.net/$web/x": {"azure:acme", "azure:acme/$web"},
}
NOT_ONE = [
    "s3.amazonaws.com/",
    "s3.amazonaws.com//b-1/x",
    "s3.amazonaws.com/B_1/x",
    "s3.amazonaws.com.evil.test/b-1/x",
    "evils3.amazonaws.com/b-1/x",
    "s3-accelerate.amazonaws.com/b-1/x",
    "s3-website-us-east-1.amazonaws.com/b-1/x",
    "123456789012.s3-control.us-east-1.amazonaws.com/v20180820/bucket/b-1",
    "b-1.vpce-1a2b.s3.us-east-1.vpce.amazonaws.com/x",
    "ec2.us-east-1.amazonaws.com/b-1",
    "ap-123.s3-accesspoint.us-east-1.amazonaws.com/x",
    "storage.googleapis.com/",
    "storage.googleapis.com/storage/v1/b?project=p",
    "storage.googleapis.com/batch/storage/v1",
    "storage.googleapis.com/storage/v1/b/b-1/o/x/rewriteTo/b/evil/o/y",
    "storage.googleapis.com/storage/v1/b/b-1/o/x/copyTo/b/evil/o/y",
    "storage.googleapis.com/storage/v2/b/b-1",
    "b-1.storage.googleapis.com/storage/v1/b/evil/o/x",
    "b-1.storage.googleapis.com/upload/storage/v1/b/evil/o",
    "www.googleapis.com/b-1/x",
    "www.googleapis.com/drive/v3/files",
    "bigquery.googleapis.com/b-1/x",
    "firebasestorage.googleapis.com/b-1/x",
    "storage.googleapis.com.evil.test/b-1/x",
    "acme.queue.core.windows.net/logs/x",
    "acme.blob.core.windows.net.evil.test/logs/x",
    "a.b.blob.core.windows.net/logs/x",
    "acme.blob.core.windows.net/Lo_gs/x",
    "www.example.com/b-1/x",
    "192.0.2.1/b-1/x",
]


@pytest.mark.parametrize("url", S3)
def test_s3(url: str) -> None:
    """Every form of URL of S3 speaks of the bucket."""
    assert told(url) == {"s3:b-1"}


@pytest.mark.parametrize("url", GCS)
def test_gcs(url: str) -> None:
    """Every form of URL of Google Cloud Storage speaks of the bucket."""
    assert told(url) == {"gcs:b-1"}


@pytest.mark.parametrize("url", AZURE)
def test_azure(url: str) -> None:
    """Every form of URL of Azure speaks of the container, and of its account."""
    assert told(url) == {"azure:acme", "azure:acme/logs"}


@pytest.mark.parametrize("url", SPECIAL)
def test_special_places(url: str) -> None:
    """Dots in names, access points, root and web containers, and accounts are told apart."""
    assert told(url) == SPECIAL[url]


@pytest.mark.parametrize("url", NOT_ONE)
def test_what_is_not_one_bucket(url: str) -> None:
    """What cannot be read as one bucket is none."""
    assert told(url) == frozenset()


@pytest.mark.parametrize(
    "text",
    ["s3:acme-data", "s3:my.bucket", "s3:accesspoint/ap-123456789012", "gcs:a_b", "azure:acme", "azure:acme/$web"],
)
def test_names_in_rules(text: str) -> None:
    """Rules name buckets as URLs are read."""
    assert parse_bucket(text) == text


@pytest.mark.parametrize(
    "text", ["acme", "s3:", "s3:Acme", "s3:a/b", "gcs:*", "azure:acme/", "azure:a-b", "minio:x", ""]
)
def test_no_names(text: str) -> None:
    """A name that no URL could ever be read as is refused."""
    with pytest.raises(ValueError, match="is no bucket"):
        parse_bucket(text)


wild_hosts = st.sampled_from(
    (
        "s3.amazonaws.com",
        "b.s3.amazonaws.com",
        "storage.googleapis.com",
        "www.googleapis.com",
        "acme.blob.core.windows.net",
    )
)


@given(wild_hosts | st.text(max_size=40), st.text(max_size=40).map(lambda text: f"/{text}"), st.text(max_size=20))
def test_whatever_is_found_can_be_written_in_a_rule(host: str, path: str, query: str) -> None:
    """Any text is read without an error, and only names that rules can write come out."""
    for name in buckets_of(host, path, query):
        assert parse_bucket(name) == name
