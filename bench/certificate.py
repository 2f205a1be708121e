"""Makes what a server shows to those who connect."""

from __future__ import annotations

from pathlib import Path

from securerecv.vault.certificates import self_made_certificate


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate and its key, both in files of a folder."""
    files = folder / "certificate.pem", folder / "key.pem"
    for file, content in zip(files, self_made_certificate(), strict=True):
        file.write_bytes(content)
    return files
