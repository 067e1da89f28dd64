#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make.py [DIR] - archives in every form that keepfs must always be able to read.

Writes NAME/ULID/{payload.bin,manifest.yaml[,payload_ids]} and NAME/content.sha256, the sum of what
the archive holds, into DIR, which is this directory unless given, and keys/: master.key, which all
encrypted ones are encrypted with, and other.key, which is wrong for all.

It shares no code with keepfs: it was written from the formats' descriptions in src/archive/*.h and
src/stream/seekable.h. Key, salts, nonces, ids and times are fixed, so what is kept here can be made
again: `make.py DIR && diff -r -x '*.py' . DIR`. The bytes of zstd's frames depend on its version;
with another one this exits with 77.
"""
import hashlib
import hmac
import os
import re
import struct
import subprocess
import sys

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ZSTD = "1.5.4"
MASTER = hashlib.sha256(b"keepfs golden master key").digest()
OTHER = hashlib.sha256(b"keepfs golden other key").digest()
STORE, KIND, KEY_REF = "app", "sqlite", "env:KEEPFS_GOLDEN_KEY"
CREATED_AT = "2026-11-21T06:30:28.123Z"
F1 = 1024  # bytes of a frame in an envelope v1, and in one of v2: its least
F2 = 64 << 10
ZSTD_FRAME = 1 << 20
IDS = ["8f14e45f", "block/2", "c0ffee"]


def salt_of(ulid):
    return hashlib.sha256(b"salt " + ulid.encode()).digest()


def nonce_of(ulid, i):
    return hashlib.sha256(b"nonce %d " % i + ulid.encode()).digest()[:12]


def text(size):
    """Lines that compress well but not to nothing."""
    lines = (f"{i:07d} {hashlib.sha256(str(i).encode()).hexdigest()[:2]} "
             "the quick brown fox jumps over the lazy dog\n" for i in range(size // 55 + 1))
    return "".join(lines).encode()[:size]


def hkdf(key, salt, info, length):
    """HKDF-SHA256, RFC 5869."""
    extracted, out, block = hmac.digest(salt, key, "sha256"), b"", b""
    while len(out) < length:
        block = hmac.digest(extracted, block + info + bytes([len(out) // 32 + 1]), "sha256")
        out += block
    return out[:length]


def zstd_frame(content, level):
    """A frame with content size and checksum; the CLI writes the size if it knows it."""
    return subprocess.run(["zstd", "-q", "-c", f"-{level}", "--check",
                           f"--stream-size={len(content)}"],
                          input=content, stdout=subprocess.PIPE, check=True).stdout


def seekable(content, level):
    """Independent frames, then the seek table of zstd's seekable format; little endian."""
    parts = [content[i:i + ZSTD_FRAME] for i in range(0, len(content), ZSTD_FRAME)]
    frames = [zstd_frame(part, level) for part in parts]
    table = b"".join(struct.pack("<II", len(f), len(p)) for f, p in zip(frames, parts))
    table += struct.pack("<IBI", len(frames), 0, 0x8F92EAB1)
    return b"".join(frames) + struct.pack("<II", 0x184D2A5E, len(table)) + table


def parts_v1(content):
    """All but the last are full, the last never is."""
    return [content[i:i + F1] for i in range(0, len(content) + 1, F1)]


def envelope_v1(ulid, parts):
    out = struct.pack(">4sBI", b"DFS1", 1, F1)
    for i, part in enumerate(parts):
        aad = struct.pack(">Q", i) + (b"final" if i == len(parts) - 1 else b"data")
        sealed = AESGCM(MASTER).encrypt(nonce_of(ulid, i), part, aad)
        out += nonce_of(ulid, i) + struct.pack(">I", len(sealed)) + sealed
    return out


def parts_v2(content):
    """All but the last are full, the last is empty only if there is nothing."""
    return [content[i:i + F2] for i in range(0, max(len(content), 1), F2)]


def envelope_v2(ulid, parts):
    bound = struct.pack(">4sBIB6x32s", b"DFS1", 2, F2, 1, salt_of(ulid))
    info = b"dfs1-v2\0" + bound
    for name in STORE.encode(), ulid.encode():
        info += struct.pack(">H", len(name)) + name
    keys = hkdf(MASTER, salt_of(ulid), info, 64)
    header = out = bound + keys[32:]
    for i, part in enumerate(parts):
        nonce = bytes(3) + struct.pack(">QB", i, i == len(parts) - 1)
        out += AESGCM(keys[:32]).encrypt(nonce, part, header)
    return out


def quoted(value):
    """Text that a reader of YAML could take for a number is quoted."""
    return f"'{value}'" if re.fullmatch(r"[-+]?[0-9.][0-9_.:eE+tTzZ -]*", value) else value


def common(version, ulid, stored):
    return (f"manifest_version: {version}\nbackup_id: {quoted(ulid)}\ncreated_at: {CREATED_AT}\n"
            f"store_id: {STORE}\nstore_kind: {KIND}\n"
            f"sha256: {quoted(hashlib.sha256(stored).hexdigest())}\nsize_bytes: {len(stored)}\n")


def metadata_lines(metadata):
    lines = [f"  {quoted(key)}: {quoted(value)}\n" for key, value in sorted(metadata.items())]
    return "engine_metadata:\n" + "".join(lines) if lines else ""


def manifest_v1(ulid, stored, encrypt, ids, metadata):
    out = common(1, ulid, stored)
    if encrypt:
        out += f"encryption:\n  enabled: true\n  algorithm: aes-256-gcm\n  key_ref: {KEY_REF}\n"
    else:
        out += "encryption:\n  enabled: false\n"
    out += "payload_id_set:" + ("".join(f"\n- {quoted(i)}" for i in ids) or " []") + "\n"
    return (out + metadata_lines(metadata)).encode()


def manifest_v2(ulid, stored, content_bytes, level, encrypt, ids, metadata):
    out = common(2, ulid, stored) + f"content_bytes: {content_bytes}\ncompression:\n"
    out += f"  algorithm: zstd\n  level: {level}\n" if level else "  algorithm: none\n"
    out += f"encryption:\n  enabled: {'true' if encrypt else 'false'}\n"
    if encrypt:
        key_id = hkdf(MASTER, b"", b"keepfs key id", 8).hex()
        out += f"  envelope: 2\n  key_id: {quoted(key_id)}\n"
    out += f"payload_id_count: {len(ids)}\n"
    if ids:
        out += f"payload_ids_sha256: {quoted(hashlib.sha256(ids_text(ids)).hexdigest())}\n"
    out = (out + metadata_lines(metadata)).encode()
    if encrypt:
        key = hkdf(MASTER, b"", b"keepfs manifest mac v1" + STORE.encode(), 32)
        out += b"manifest_mac: v1:%s\n" % hmac.new(key, out, "sha256").hexdigest().encode()
    return out


def ids_text(ids):
    return "".join(f"{i}\n" for i in ids).encode()


def put(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)


def archive(base, name, ulid, content, version=2, level=0, encrypt=True, ids=(), metadata={}):
    stored = seekable(content, level) if level else content
    if encrypt and version == 1:
        stored = envelope_v1(ulid, parts_v1(stored))
    elif encrypt:
        stored = envelope_v2(ulid, parts_v2(stored))
    if version == 1:
        manifest = manifest_v1(ulid, stored, encrypt, ids, metadata)
    else:
        manifest = manifest_v2(ulid, stored, len(content), level, encrypt, ids, metadata)
    put(f"{base}/{name}/{ulid}/payload.bin", stored)
    put(f"{base}/{name}/{ulid}/manifest.yaml", manifest)
    if ids and version == 2:
        put(f"{base}/{name}/{ulid}/payload_ids", ids_text(ids))
    sha256 = hashlib.sha256(content).hexdigest()
    put(f"{base}/{name}/content.sha256", f"{sha256}  -\n".encode())


def main():
    base = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    version = subprocess.run(["zstd", "--version"], stdout=subprocess.PIPE, check=True, text=True)
    if f"v{ZSTD}," not in version.stdout:
        print(f"make.py: zstd {ZSTD} is needed, this is {version.stdout.strip()}", file=sys.stderr)
        sys.exit(77)
    put(f"{base}/keys/master.key", MASTER)
    put(f"{base}/keys/other.key", OTHER)

    archive(base, "v2-enc-none-empty", "01KAGE00000000000000000001", b"")
    archive(base, "v2-enc-none-one-byte", "01KAGE00000000000000000002", b"k")
    archive(base, "v2-enc-none-frames", "01KAGE00000000000000000003", text(3 * F2 + 5))
    archive(base, "v2-enc-zstd", "01KAGE00000000000000000004", text(2 * ZSTD_FRAME + 5), level=3)
    archive(base, "v2-enc-zstd-empty", "01KAGE00000000000000000005", b"", level=3)
    archive(base, "v2-enc-ids", "01KAGE00000000000000000006", b"three ids", ids=IDS,
            metadata={"page_size": "4096", "schema": "app"})
    archive(base, "v2-plain-zstd", "01KAGE00000000000000000007", text(100_000), level=3,
            encrypt=False)
    archive(base, "v2-plain-none", "01KAGE00000000000000000008", text(5000), encrypt=False)

    archive(base, "v1-enc-empty", "01KAGE00000000000000000009", b"", version=1)
    archive(base, "v1-enc-frames-less", "01KAGE0000000000000000000A", text(F1 - 1), version=1)
    archive(base, "v1-enc-frames-one", "01KAGE0000000000000000000B", text(F1), version=1)
    archive(base, "v1-enc-frames-more", "01KAGE0000000000000000000C", text(3 * F1 + 5), version=1,
            ids=IDS)
    archive(base, "v1-plain", "01KAGE0000000000000000000D", text(5000), version=1, encrypt=False)


if __name__ == "__main__":
    main()
