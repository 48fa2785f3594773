"""Cloud storage: which bucket, or account and container, a URL speaks of.

Pure: no I/O, no clock. Written from the providers' references: "Virtual hosting of buckets", "Website endpoints" and
"Access points" of Amazon S3; "Request endpoints" of Google Cloud Storage, for its XML and its JSON API; "Naming and
referencing containers, blobs, and metadata" of Azure, for blob, dfs and web endpoints. What cannot be read as one
bucket is none: lists of buckets, batches, copies from one to another, private endpoints, names of somebody's own.

What a *header field* names as the source of a copy is not looked at: data moves into the bucket of the URL then.
"""

import re
from urllib.parse import parse_qsl

NONE: frozenset[str] = frozenset()

_REGION = r"[a-z]{2,4}(?:-[a-z]+)+-\d{1,2}"
_S3 = re.compile(
    rf"(?:(?P<bucket>.+)\.)?(?P<service>s3(?:-fips)?(?:\.dualstack)?(?:\.{_REGION})?|s3-(?:fips-)?{_REGION}|s3-external-1"
    rf"|s3-accelerate(?:\.dualstack)?|s3-website[.-]{_REGION}|s3express-[a-z0-9-]+\.{_REGION})"
    r"\.amazonaws\.(?:com|com\.cn|eu)"
)
_S3_ACCESS_POINT = re.compile(
    rf"([a-z0-9-]+-\d{{12}})\.s3-accesspoint(?:-fips)?(?:\.dualstack)?\.{_REGION}\.amazonaws\.(?:com|com\.cn|eu)"
    r"|([a-z0-9]+\.mrap)\.accesspoint\.s3-global\.amazonaws\.com"
)
_S3_BY_HOST_ALONE = ("s3-accelerate", "s3-website", "s3express")

_GCS_BY_PATH = re.compile(
    r"storage(?:\.mtls)?\.googleapis\.com"
    r"|storage\.[a-z]+-[a-z]+\d{1,2}\.rep\.googleapis\.com|commondatastorage\.googleapis\.com"
    r"|storage-(?:up|down)load\.googleapis\.com|storage\.cloud\.google\.com"
)
_GCS_BY_HOST = re.compile(r"(.+)\.(?:storage|commondatastorage|storage-download)\.googleapis\.com")
_GCS_JSON = re.compile(r"/(?:(?:resumable/)?upload/|download/)?storage/v1(?:beta\d)?/b/([^/]+)((?:/.*)?)", re.DOTALL)
_GCS_NOT_BUCKETS = ("storage", "upload", "download", "resumable", "batch", "discovery", "$discovery")
_FIREBASE = re.compile(r"/v0/b/([^/]+)(?:/.*)?", re.DOTALL)

_AZURE = re.compile(
    r"(?P<account>[a-z0-9]{3,24})(?:-secondary)?\.(?:z\d{1,2}\.)?(?P<service>blob|dfs|web)"
    r"\.(?:core\.(?:windows\.net|chinacloudapi\.cn|usgovcloudapi\.net|cloudapi\.de)|storage\.azure\.net)"
)

_NAMES = {
    "s3": re.compile(r"(?:accesspoint/)?[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"),
    "gcs": re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"),
    "azure": re.compile(r"[a-z0-9]{3,24}(?:/(?:\$root|\$web|\$logs|[a-z0-9][a-z0-9-]{1,61}[a-z0-9]))?"),
}


def parse_bucket(text: str) -> str:
    """Check how a rule names a bucket: `s3:name`, `s3:accesspoint/name`, `gcs:name`, `azure:account/container`.

    Raises:
        ValueError: it is none of these.
    """
    provider, colon, name = text.partition(":")
    if not colon or provider not in _NAMES or not _NAMES[provider].fullmatch(name):
        raise ValueError(
            f"{text!r} is no bucket: give s3:name, s3:accesspoint/name-account, gcs:name, azure:account or "
            "azure:account/container, in lower case"
        )
    return text


def buckets_of(host: str, path: str, query: str = "") -> frozenset[str]:
    """Return the names of the bucket that a URL speaks of, as rules write them; none if it is not exactly one.

    `host` is in normal form, `path` one reading of it. An Azure container has two names: its own, and its account's.

    >>> sorted(buckets_of("acme.blob.core.windows.net", "/logs/2024/x"))
    ['azure:acme', 'azure:acme/logs']
    """
    if host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu")):
        return _known("s3", _s3(host, path))
    if host.endswith((".googleapis.com", ".cloud.google.com")):
        return _known("gcs", _gcs(host, path))
    return _azure(host, path, query)


def _known(provider: str, name: str) -> frozenset[str]:
    return frozenset((f"{provider}:{name}",)) if _NAMES[provider].fullmatch(name) else NONE


def _s3(host: str, path: str) -> str:
    if found := _S3_ACCESS_POINT.fullmatch(host):
        return f"accesspoint/{found[1] or found[2]}"
    found = _S3.fullmatch(host)
    if found is None:
        return ""
    if found["bucket"]:
        return found["bucket"]
    return "" if found["service"].startswith(_S3_BY_HOST_ALONE) else _first(path)


def _gcs(host: str, path: str) -> str:
    if host == "firebasestorage.googleapis.com":
        found = _FIREBASE.fullmatch(path)
        return found[1] if found else ""
    named = _GCS_BY_HOST.fullmatch(host)
    by_path = bool(_GCS_BY_PATH.fullmatch(host))
    if not named and not by_path and host != "www.googleapis.com":
        return ""
    if found := _GCS_JSON.fullmatch(path):
        # A bucket in the name of the host and one in the path, or two in the path, are not one bucket.
        return "" if named or "/rewriteto/b/" in found[2].lower() or "/copyto/b/" in found[2].lower() else found[1]
    if _first(path).lower() in _GCS_NOT_BUCKETS:
        return ""
    if by_path:
        return _first(path)
    return named[1] if named else ""


def _azure(host: str, path: str, query: str) -> frozenset[str]:
    found = _AZURE.fullmatch(host)
    if found is None:
        return NONE
    account = f"azure:{found['account']}"
    first = _first(path)
    if found["service"] == "web":
        container = "$web"
    elif found["service"] == "blob" and first and "/" not in path[1:] and not _asks_for_container(query):
        container = "$root"  # a blob without a container is in that one
    else:
        container = first
    if not container:
        return frozenset((account,))
    whole = f"{account}/{container}"
    return frozenset((account, whole)) if _NAMES["azure"].fullmatch(whole.removeprefix("azure:")) else NONE


def _asks_for_container(query: str) -> bool:
    given = [(name.lower(), value.lower()) for name, value in parse_qsl(query, keep_blank_values=True)]
    return ("restype", "container") in given


def _first(path: str) -> str:
    return path[1:].partition("/")[0] if path.startswith("/") else ""
