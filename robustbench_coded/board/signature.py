"""An entry's list of hashes, signed with an SSH key by `ssh-keygen -Y`.

Anyone who changes a file can write new hashes. A new signature needs its author's key.
"""

import re
import shutil
import subprocess
from pathlib import Path

from robustbench_coded.errors import InputError

HASHES = "SHA256SUMS"
SIGNATURE = f"{HASHES}.sig"
SIGNERS = "allowed_signers"  # beside the entries: whose signatures count, in the format of ssh-keygen(1)
NAMESPACE = "csrobust"  # what a signature is for; one made for something else is none


def sign(folder: Path, key: Path) -> None:
    """Writes SHA256SUMS.sig. A key with a passphrase asks for it at the terminal.

    Raises:
        InputError: no ssh-keygen, or the key can't be used.
    """
    done = _keygen("sign", "-f", str(key), str(folder / HASHES))
    if done.returncode:
        raise InputError(
            f"--sign {key}: {_first(done.stderr)}; give an SSH private key (ssh-keygen -t ed25519)"
        )


def signer_of(folder: Path) -> str | None:
    """The fingerprint of the key that signed an entry's hashes, with its name where ``allowed_signers``
    beside the entry has one; None where there is no signature and no such file asks for one.

    Raises:
        InputError: the hashes are not those that were signed, or the signer is not allowed.
    """
    signature, signers = folder / SIGNATURE, folder.parent / SIGNERS
    if not signature.is_file():
        if signers.is_file():
            raise InputError(f"{folder} is not signed, and {signers} asks for it; csrobust submit --sign KEY")
        return None
    hashes = (folder / HASHES).read_bytes()
    known = ""
    if signers.is_file():
        found = _keygen("find-principals", "-f", str(signers), "-s", str(signature))
        known = found.stdout.decode(errors="replace").partition("\n")[0].strip()
        if found.returncode or not known:
            raise InputError(f"{folder}: {signers} has no key that made {SIGNATURE}; add it, or sign again")
        done = _keygen("verify", "-f", str(signers), "-I", known, "-s", str(signature), given=hashes)
    else:
        done = _keygen("check-novalidate", "-s", str(signature), given=hashes)
    key = re.search(r"SHA256:\S+", done.stdout.decode(errors="replace"))
    if done.returncode or key is None:
        raise InputError(
            f"{folder}: {HASHES} is not what was signed ({_first(done.stderr)}); submit the run again"
        )
    return f"{known}, {key[0]}" if known else key[0]


def _keygen(what: str, *arguments: str, given: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    program = shutil.which("ssh-keygen")
    if program is None:
        raise InputError("signatures of entries need ssh-keygen; install OpenSSH")
    command = [program, "-Y", what, *(() if what == "find-principals" else ("-n", NAMESPACE)), *arguments]
    return subprocess.run(command, input=given, capture_output=True)


def _first(error: bytes) -> str:
    lines = [line.strip() for line in error.decode(errors="replace").splitlines() if line.strip()]
    return lines[0][:200] if lines else "ssh-keygen says nothing more"
