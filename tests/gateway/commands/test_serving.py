"""Commands that serve; that they do is in tests/integration."""

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.commands import serving


def test_proxy_ca(tmp_path: Path) -> None:
    """The inspection CA is made where there is none, shown with its fingerprint, and exported as it is."""
    (tmp_path / "policy.yaml").write_text("version: 1\nstate_dir: ./state\n")
    config = ["--config", str(tmp_path / "policy.yaml")]
    shown = CliRunner().invoke(main, ["proxy", "ca", *config])
    assert shown.exit_code == 0, shown.output
    for program in ("Debian", "Java", "Node", "pip", "git"):
        assert f"  {program} " in shown.output
    exported = CliRunner().invoke(main, ["proxy", *config, "ca", "--export"])
    certificate = tmp_path / "state" / "ca" / "mitmproxy-ca-cert.pem"
    assert exported.output == certificate.read_text()
    assert str(certificate) in shown.output


def test_a_welcome_that_nobody_can_read_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With a full disk or a closed pipe behind standard output, the gateway serves, and its exit code is its own."""
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        serving._greet(["gateway is running"])
    assert "standard output cannot be written to: No space left on device" in caplog.text
