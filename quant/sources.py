"""A hash of the code that writes something, for caches of what it wrote."""

from hashlib import sha256
from importlib import metadata, resources

__all__ = ["sources_hash"]


def sources_hash(packages: tuple[str, ...], distributions: tuple[str, ...]) -> str:
    """16 hexadecimal digits that change with any module of our `packages`, or a release of others' `distributions`."""
    digest = sha256("".join(metadata.version(name) for name in distributions).encode())
    for package in packages:
        for source in sorted(resources.files(package).iterdir(), key=lambda entry: entry.name):
            if source.name.endswith(".py"):
                digest.update(source.read_bytes())
    return digest.hexdigest()[:16]
