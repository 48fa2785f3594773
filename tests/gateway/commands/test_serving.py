"""Commands that serve; that they do is in tests/integration."""

from pathlib import Path

from click.testing import CliRunner

from gateway.cli import main


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
