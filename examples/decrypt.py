#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""decrypt.py ARCHIVE KEY - what an encrypted archive of keepfs holds, without keepfs.

ARCHIVE  the directory, named by a ULID, with payload.bin and manifest.yaml
KEY      file:/path or a plain path: a file of 32 bytes; env:NAME: a variable of 64 hex digits

Writes the decrypted stream to standard output. If the manifest says `algorithm: zstd`, that is
still compressed: decrypt.py ARCHIVE KEY | zstd -dc > app.db
No byte leaves before its tag was checked, but only exit status 0 says that the stream is whole (in
a pipe: set -o pipefail); 1: it failed; 2: wrong usage, or not encrypted. Integers: big endian.
"""
import hashlib
import hmac
import os
import re
import signal
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

FORMS = {"manifest_version": "[12]", "backup_id": "[0-9A-Z]{26}", "store_id": "[a-z0-9._-]+",
         "sha256": "[0-9a-f]{64}", "size_bytes": "[0-9]{1,18}", "encryption.enabled": "true|false",
         "encryption.key_id": "[0-9a-f]{16}", "compression.algorithm": "none|zstd"}


def need(condition, complaint, status=1):
    if not condition:
        print("decrypt.py:", complaint, file=sys.stderr)
        sys.exit(status)


def load_key(ref):
    if ref.startswith("env:"):
        key = bytes.fromhex(os.environ.get(ref[4:], ""))
    else:
        with open(ref[5:] if ref.startswith("file:") else ref, "rb") as file:
            key = file.read(33)
    need(len(key) == 32, f"{ref}: a key is 32 bytes, in a variable as 64 hex digits")
    return key


def hkdf(key, salt, info, length):
    return HKDF(hashes.SHA256(), length, salt, info).derive(key)


def parse_manifest(text):
    """keepfs writes one `key: value` a line, indented below a map: here "map.key"."""
    manifest, section = {}, ""
    for line in text.decode().split("\n")[:-1]:
        if section in ("engine_metadata", "payload_id_set") and line.startswith((" ", "-")):
            continue  # words of the source, not needed here
        m = re.fullmatch("( *)([a-z0-9_]+):(?: ('?)(.+)\\3)?", line)
        need(m and (section or not m[1]), f"manifest.yaml: this line is not understood: {line!r}")
        name, value = f"{section}.{m[2]}" if m[1] else m[2], m[4] or ""
        need(name not in manifest and re.fullmatch(FORMS.get(name, ".*"), value),
             f"manifest.yaml: there twice, or not of the right form: {line!r}")
        manifest[name] = value
        section = section if m[1] else "" if value else name
    return manifest


def authenticate(manifest, text, key):
    """Is this the key, and was the manifest, of version 2, written with it?"""
    ours, wanted = hkdf(key, None, b"keepfs key id", 8).hex(), manifest["encryption.key_id"]
    need(ours == wanted, f"wrong key: its id is {ours}, that of the archive's {wanted}")
    mac_key = hkdf(key, None, b"keepfs manifest mac v1" + manifest["store_id"].encode(), 32)
    mac = hmac.new(mac_key, text[:-82], "sha256").hexdigest()  # of all but the last line
    need(hmac.compare_digest(text[-82:], f"manifest_mac: v1:{mac}\n".encode()),
         "manifest altered: its manifest_mac is not of these bytes")


def envelope_v1(file, key, manifest):
    """"DFS1" | u8 1 | u32 frame size, then frames: nonce[12] | u32 length | ciphertext | tag[16].
    The last frame is always there, and the only one that is not full; it may be empty."""
    header = file.read(9)
    frame_size = int.from_bytes(header[5:], "big")
    need(len(header) == 9 and header[:5] == b"DFS1\1" and 1 <= frame_size <= 64 << 20,
         "damaged header: not that of an envelope v1")

    def open_frame(i, last, stored):
        length = int.from_bytes(stored[12:16], "big")
        need(length == len(stored) - 16, f"truncated, or damaged frame {i}: its length is wrong")
        bound_to = i.to_bytes(8, "big") + (b"final" if last else b"data")
        return AESGCM(key).decrypt(stored[:12], stored[16:], bound_to)
    return header, frame_size + 32, frame_size + 31, open_frame


def envelope_v2(file, key, manifest):
    """"DFS1" | u8 2 | u32 frame size | u8 1 | 6 zeros | salt[32] | commit[32], then frames:
    ciphertext | tag[16]. All but the last are full; it is empty only if there are no others."""
    header = file.read(80)
    frame_size, salt, commit = int.from_bytes(header[5:9], "big"), header[16:48], header[48:]
    need(len(header) == 80 and header[:5] == b"DFS1\2" and header[9:16] == b"\1" + bytes(6)
         and frame_size in [1 << n for n in range(16, 25)],
         "damaged header: not that of an envelope v2")
    ids = [manifest[name].encode() for name in ("store_id", "backup_id")]
    info = b"".join(len(each).to_bytes(2, "big") + each for each in ids)
    keys = hkdf(key, salt, b"dfs1-v2\0" + header[:48] + info, 64)
    need(hmac.compare_digest(keys[32:], commit),
         "wrong archive: payload.bin is that of another one, or its header was altered")

    def open_frame(i, last, stored):
        need(i == 0 or len(stored) > 16, f"truncated: frame {i} is empty")
        return AESGCM(keys[:32]).decrypt(i.to_bytes(11, "big") + bytes([last]), stored, header)
    return header, frame_size + 16, frame_size + 16, open_frame


def decrypt(archive, key_ref, out):
    with open(f"{archive}/manifest.yaml", "rb") as file:
        text = file.read(1 << 20)
    manifest = parse_manifest(text)
    tool = "zstd -dc" if manifest.get("compression.algorithm") == "zstd" else "cat"
    need(manifest["encryption.enabled"] == "true",
         f"{archive} is not encrypted: {tool} {archive}/payload.bin", 2)
    key, v1 = load_key(key_ref), manifest["manifest_version"] == "1"
    if not v1:
        authenticate(manifest, text, key)
    name, record = os.path.basename(os.path.realpath(archive)), manifest["backup_id"]
    need(name == record, f"wrong archive: the manifest is of {record}, the directory is {name}")
    with open(f"{archive}/payload.bin", "rb") as file:
        size, sha256 = int(manifest["size_bytes"]), manifest["sha256"]
        left = os.fstat(file.fileno()).st_size
        need(left >= size, f"truncated: payload.bin has {left} of {size} bytes")
        need(left == size, f"trailing bytes: payload.bin has {left} bytes instead of {size}")
        envelope = envelope_v1 if v1 else envelope_v2
        header, longest, longest_last, open_frame = envelope(file, key, manifest)
        i, left, last, digest = 0, left - len(header), False, hashlib.sha256(header)
        while not last:
            last, stored = left <= longest_last, file.read(min(left, longest))
            try:
                out.write(open_frame(i, last, stored))
            except InvalidTag:
                need(False, f"damaged frame {i}" + (", or wrong key" if v1 and i == 0 else ""))
            digest.update(stored)
            i, left = i + 1, left - len(stored)
    out.flush()
    need(digest.hexdigest() == sha256, "payload.bin has not the sha256 of the manifest")


need(len(sys.argv) == 3, "usage: decrypt.py ARCHIVE KEY", 2)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # whoever reads from us may leave
try:
    decrypt(*sys.argv[1:], sys.stdout.buffer)
except (OSError, ValueError, KeyError) as e:
    need(False, f"manifest.yaml: {e} is missing" if isinstance(e, KeyError) else e)
