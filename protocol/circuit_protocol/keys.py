"""CURVE keys: who the daemon is, and which clients it lets in over TCP.

    <config>/keys/server.secret     the daemon's own key, 0600
    <config>/keys/server.public     what clients are given
    <config>/keys/client.secret     this user's key as a client, 0600
    <config>/keys/client.public     what the daemon's owner is given
    <config>/keys/allowed/*.public  the clients that may connect, one file each

A file holds one key in Z85, 40 printable characters. A secret is born with mode 0600 and refused
when others may read it.
"""

import hashlib
import os
import re
import stat
import struct
from pathlib import Path
from typing import Final

import msgspec
import zmq
from zmq.utils import z85

from circuit_protocol.endpoints import config_dir, ensure_private_dir
from circuit_protocol.errors import Conflict, Forbidden, InvalidRequest, NotFound

KEY_NBYTES: Final = 32
#: Characters of a key as text.
KEY_LENGTH: Final = 40
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")


class KeyPair(msgspec.Struct, frozen=True):
    """A CURVE key pair, both halves in Z85."""

    public: str
    secret: str

    def __repr__(self) -> str:
        """Without the secret: representations end up in logs."""
        return f"KeyPair(public={self.public!r})"


def keys_dir() -> Path:
    """Where keys are, if nothing else is said."""
    return config_dir() / "keys"


def make_key_pair(name: str, directory: Path | None = None, *, replace: bool = False) -> KeyPair:
    """Make and store a key pair. Raises Conflict if there is one and `replace` is not set."""
    directory = ensure_private_dir(directory or keys_dir())
    public, secret = (half.decode("ascii") for half in zmq.curve_keypair())
    _store(_path(directory, name, "secret"), secret, 0o600, replace)
    _store(_path(directory, name, "public"), public, 0o644, replace=True)
    return KeyPair(public, secret)


def load_key_pair(name: str, directory: Path | None = None) -> KeyPair:
    """The stored pair; the public half is computed from the secret one, so they always match.

    Raises NotFound, Forbidden when others may read the secret, InvalidRequest when it is no key.
    """
    path = _path(directory or keys_dir(), name, "secret")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(
            "there is no such key", asked=str(path), hint="`circuitd keys` makes one"
        ) from None
    except OSError as e:
        raise Forbidden("a key cannot be read", asked=str(path), found=e.strerror) from None
    with os.fdopen(descriptor, encoding="ascii", errors="replace") as file:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise Forbidden(
                "a secret key that others may read is no secret",
                asked=str(path),
                found=f"user {found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o}",
                hint="Make a new one with `circuitd keys`; it may have been copied",
            )
        secret = parse_key(file.read(4096), str(path))
    return KeyPair(zmq.curve_public(secret.encode("ascii")).decode("ascii"), secret)


def ensure_key_pair(name: str, directory: Path | None = None) -> KeyPair:
    """The stored pair, made if there is none. Two processes that race get the same one."""
    try:
        return load_key_pair(name, directory)
    except NotFound:
        pass
    try:
        return make_key_pair(name, directory)
    except Conflict:
        return load_key_pair(name, directory)


def parse_key(text: str, source: str = "key") -> str:
    """The key in `text`: Z85, white space around it ignored. Raises InvalidRequest."""
    key = text.strip()
    try:
        if len(key) == KEY_LENGTH and len(z85.decode(key)) == KEY_NBYTES:
            return key
    except (KeyError, ValueError, UnicodeEncodeError, struct.error):
        pass  # struct.error: five characters that stand for more than 32 bits
    raise InvalidRequest(
        "this is no CURVE key", asked=source, hint="A key is 40 characters of Z85 text"
    )


def fingerprint(public: str) -> str:
    """A short form of a public key for people to compare: 8 groups of 4 hexadecimal digits."""
    digest = hashlib.sha256(z85.decode(parse_key(public))).hexdigest()
    return ":".join(digest[i : i + 4] for i in range(0, 32, 4))


def allow_client(name: str, public: str, directory: Path | None = None) -> Path:
    """Let the client with key `public` in, under a name for people."""
    allowed = ensure_private_dir(ensure_private_dir(directory or keys_dir()) / "allowed")
    path = _path(allowed, name, "public")
    _store(path, parse_key(public), 0o644, replace=True)
    return path


def disallow_client(name: str, directory: Path | None = None) -> None:
    """Take a client's permission back; its open connections are the daemon's to close."""
    allowed = (directory or keys_dir()) / "allowed"
    try:
        _path(allowed, name, "public").unlink()
    except FileNotFoundError:
        raise NotFound.unknown(
            "allowed client", name, allowed_clients(directory).values()
        ) from None


def allowed_clients(directory: Path | None = None) -> dict[str, str]:
    """Public key to name of every client on the allow-list, read anew each time.

    Raises InvalidRequest for a file that holds no key: to skip it would hide a mistake.
    """
    allowed = (directory or keys_dir()) / "allowed"
    found = {}
    for path in sorted(allowed.glob("*.public")):
        found[parse_key(path.read_text("ascii", "replace"), str(path))] = path.stem
    return found


def _path(directory: Path, name: str, suffix: str) -> Path:
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            "this is no name for a key",
            asked=name,
            hint="Use letters, digits, dot, dash, underscore and @",
        )
    return directory / f"{name}.{suffix}"


def _store(path: Path, key: str, mode: int, replace: bool) -> None:
    """Write a key so that it appears whole, and never with more than `mode`."""
    import tempfile  # of no use to clients, and slow to import

    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(key + "\n")
            os.fchmod(descriptor, mode)
            file.flush()
            os.fsync(descriptor)
        if replace:
            Path(temporary).replace(path)
        else:
            os.link(temporary, path)  # unlike a rename, fails when there is one already
    except FileExistsError:
        raise Conflict(
            "there is a key of this name already", asked=str(path), hint="Replace it on purpose"
        ) from None
    finally:
        Path(temporary).unlink(missing_ok=True)
