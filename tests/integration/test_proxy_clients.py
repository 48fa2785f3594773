"""Programs that people use, through the proxy: spliced with the origin's certificate, inspected with the gateway's.

None of them can resolve good.test: what arrives came through the proxy. A program that is not installed is skipped.
"""

import base64
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.request import HttpRequest, TlsHello
from tests.integration.proxy_rig import a_proxy, allow, inspect, run
from tests.peers.file_origin import FileOrigin
from tests.peers.tls_origin import make_certificate

GREETING = "hello from the origin"

NODE = """
const http = require("http"), tls = require("tls"), https = require("https");
const proxy = new URL(process.argv[1]), target = new URL(process.argv[2]);
http.request({host: proxy.hostname, port: proxy.port, method: "CONNECT", path: target.host})  // Host: the proxy
  .on("connect", (answer, socket) => {
    if (answer.statusCode !== 200) process.exit(3);
    const createConnection = () => tls.connect({socket, servername: target.hostname});
    https.get(target, {createConnection}, (got) => { got.pipe(process.stdout); got.on("end", () => socket.end()); });
  }).end();
"""

JAVA = """
import java.net.*;
import java.net.http.*;
public class Client {
    public static void main(String[] given) throws Exception {
        var proxy = ProxySelector.of(new InetSocketAddress("127.0.0.1", Integer.parseInt(given[0])));
        var client = HttpClient.newBuilder().proxy(proxy).build();
        var request = HttpRequest.newBuilder(URI.create(given[1])).build();
        System.out.print(client.send(request, HttpResponse.BodyHandlers.ofString()).body());
    }
}
"""

PYTHON = {
    "requests": "import sys, requests; print(requests.get(sys.argv[1]).text)",
    "httpx": "import sys, httpx; print(httpx.get(sys.argv[1]).text)",
    "urllib": "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())",
    "aiohttp": """
import asyncio, sys, aiohttp
async def get():
    async with aiohttp.ClientSession(trust_env=True) as session, session.get(sys.argv[1]) as answer:
        print(await answer.text())
asyncio.run(get())
""",
}


@dataclass(frozen=True)
class World:
    """What a client is told: where the proxy is, where to go, whom to trust, where to write."""

    port: int
    site: str
    trust: Path
    folder: Path

    @property
    def proxy(self) -> str:
        """The proxy's URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def page(self) -> str:
        """A file that greets."""
        return f"{self.site}/hello.txt"


def curl(world: World) -> list[str]:
    """One file."""
    return ["curl", "-sS", "-x", world.proxy, "--cacert", str(world.trust), world.page]


def wget(world: World) -> list[str]:
    """One file."""
    use = ["-e", "use_proxy=yes", "-e", f"https_proxy={world.proxy}", "--ca-certificate", str(world.trust)]
    return ["wget", "-q", "-O", "-", "--tries=1", *use, world.page]


def git(world: World) -> list[str]:
    """A clone, and its file."""
    clone = f"git clone -q {world.site}/repo.git clone && cat clone/hello.txt"
    return ["sh", "-c", f"cd {world.folder} && {clone}"]


def pip(world: World) -> list[str]:
    """A wheel, from an index, and its file."""
    fetch = f"{sys.executable} -m pip download -q --no-deps --no-cache-dir --disable-pip-version-check --no-input"
    fetch += f" --isolated --proxy {world.proxy} --cert {world.trust} -i {world.site}/simple/ -d got greeting"
    return [
        "sh",
        "-c",
        f"cd {world.folder} && {fetch} && {sys.executable} -m zipfile -e got/*.whl . && cat greeting.py",
    ]


def apt(world: World) -> list[str]:
    """The list of packages of a repository."""
    folder = world.folder
    for name in ("lists/partial", "archives/partial"):
        (folder / "apt" / name).mkdir(parents=True)
    (folder / "apt" / "status").touch()
    (folder / "apt" / "sources.list").write_text(f"deb [trusted=yes] {world.site}/debian/ ./\n")
    options = {
        "Dir::State": folder / "apt",
        "Dir::State::status": folder / "apt" / "status",
        "Dir::Cache": folder / "apt",
        "Dir::Etc::SourceList": folder / "apt" / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": "/dev/null",
        "APT::Sandbox::User": "root" if os.geteuid() == 0 else "",
        "Acquire::https::Proxy": world.proxy,
        "Acquire::https::CAInfo": world.trust,
        "Acquire::Retries": 0,
        "Acquire::AllowInsecureRepositories": "true",
    }
    given = " ".join(f"-o {name}={value}" for name, value in options.items() if value != "")
    return ["sh", "-c", f"apt-get {given} -qq update >&2 && apt-cache {given} show greeting"]


def npm(world: World) -> list[str]:
    """What a registry says of a package."""
    given = ["--registry", f"{world.site}/npm/", "--https-proxy", world.proxy, "--cafile", str(world.trust)]
    given += ["--cache", str(world.folder / "npm"), "--userconfig", "/dev/null", "--fetch-retries", "0"]
    return ["npm", "view", *given, "greeting", "description"]


def node(world: World) -> list[str]:
    """One file, with the https of Node itself."""
    return ["node", "-e", NODE, world.proxy, world.page]


def java(world: World) -> list[str]:
    """One file, with java.net.http.HttpClient."""
    (world.folder / "Client.java").write_text(JAVA)
    store = world.folder / "trust.p12"
    subprocess.run(
        ["keytool", "-importcert", "-noprompt", "-file", str(world.trust), "-keystore", str(store),
         "-storepass", "changeit"],
        check=True, capture_output=True,
    )  # fmt: skip
    given = [f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStorePassword=changeit"]
    return ["java", *given, str(world.folder / "Client.java"), str(world.port), world.page]


def python(name: str) -> Callable[[World], list[str]]:
    """One file, with a library."""
    return lambda world: [sys.executable, "-c", PYTHON[name], world.page]


def by_environment(world: World) -> Mapping[str, str]:
    """Return the variables that most programs go by."""
    trust = str(world.trust)
    files = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO")
    return {"https_proxy": world.proxy, "HTTPS_PROXY": world.proxy, **dict.fromkeys(files, trust)}


@dataclass(frozen=True)
class Client:
    """A program, what it needs, and how it is asked to fetch the greeting."""

    command: Callable[[World], list[str]]
    needs: tuple[str, ...] = ()
    module: str = ""
    prints: str = field(default=GREETING)


CLIENTS = {
    "curl": Client(curl, ("curl",)),
    "wget": Client(wget, ("wget",)),
    "git": Client(git, ("git",)),
    "pip": Client(pip, (), "pip"),
    "apt": Client(apt, ("apt-get", "apt-cache")),
    "npm": Client(npm, ("npm", "node")),
    "Node": Client(node, ("node",)),
    "Java": Client(java, ("java", "javac", "keytool")),
    **{f"Python {name}": Client(python(name), (), name) for name in PYTHON},
}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The origin's certificate."""
    return make_certificate(tmp_path_factory.mktemp("tls") / "origin.pem", "good.test")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page, a git repository, and an index for each package manager."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "hello.txt").write_text(GREETING + "\n")
    _git_repository(folder)
    simple = folder / "simple" / "greeting"
    simple.mkdir(parents=True)
    wheel = simple / "greeting-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("greeting.py", f"# {GREETING}\n")
        archive.writestr("greeting-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
        archive.writestr("greeting-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("greeting-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (simple / "index.html").write_text(f'<!DOCTYPE html><a href="{wheel.name}#sha256={digest}">{wheel.name}</a>')
    debian = folder / "debian"
    debian.mkdir()
    package = "Package: greeting\nVersion: 1.0\nArchitecture: all\nMaintainer: me <me@good.test>\n"
    package += f"Filename: ./greeting.deb\nSize: 1\nSHA256: {'0' * 64}\nDescription: {GREETING}\n\n"
    (debian / "Packages").write_text(package)
    (folder / "npm").mkdir()
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(b"").digest()).decode()
    version = {"name": "greeting", "version": "1.0.0", "description": GREETING, "dist": {"integrity": integrity}}
    packument = {"name": "greeting", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
    (folder / "npm" / "greeting").write_text(json.dumps({**packument, "description": GREETING}))
    return folder


def _git_repository(folder: Path) -> None:
    work, bare = folder / "work", folder / "repo.git"
    work.mkdir()
    (work / "hello.txt").write_text(GREETING + "\n")
    who = ["-c", "user.name=me", "-c", "user.email=me@good.test"]
    for command in (
        ["git", "init", "-q", str(work)],
        ["git", "-C", str(work), "add", "hello.txt"],
        ["git", "-C", str(work), *who, "commit", "-q", "-m", "greet"],
        ["git", "clone", "-q", "--bare", str(work), str(bare)],
        ["git", "-C", str(bare), "update-server-info"],
    ):
        subprocess.run(command, check=True, capture_output=True)


@pytest.mark.parametrize("inspected", [False, True], ids=["spliced", "inspected"])
@pytest.mark.parametrize("name", CLIENTS)
async def test_client(tmp_path: Path, certificate: Path, site: Path, name: str, inspected: bool) -> None:
    """The program fetches what it should, and every step of it is in the ledger as allowed."""
    client = CLIENTS[name]
    for program in client.needs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if client.module and importlib.util.find_spec(client.module) is None:
        pytest.skip(f"the Python package {client.module} is not installed")
    rule = inspect("good.test") if inspected else allow("good.test")
    folder = tmp_path / "client"
    folder.mkdir()
    async with (
        FileOrigin(certificate=certificate, folder=site) as origin,
        a_proxy(tmp_path, rule, trust=certificate) as rig,
    ):
        trust = tmp_path / "trust.pem"  # without the key beside it
        found = (rig.proxy.certificate if inspected else certificate).read_text()
        trust.write_text(found[found.index("-----BEGIN CERTIFICATE") :])
        world = World(rig.port, f"https://good.test:{origin.port}", trust, folder)
        clean = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        environment = {**clean, **by_environment(world), "HOME": str(folder), "LC_ALL": "C"}
        ran = await run(*client.command(world), seconds=100, environment=environment)
        assert client.prints in ran.out, (ran.code, ran.out, ran.err)
        assert ran.code == 0, ran.err
        await rig.settled()
        assert rig.ledger.denials == []
        kinds = {type(line.request) for line in rig.ledger.ended}
        assert kinds == {HttpRequest if inspected else TlsHello}
        assert len(origin.requests) >= 1
