#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""check.py - examples/decrypt.py reads all that make.py makes, and refuses all else.

Whatever is done to an archive, what comes out is the beginning of the right stream, and exit status
0 means all of it. Where damage is behind a digest or MAC, those are made to fit again, so that the
check behind them is reached.
"""
import glob
import hashlib
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import traceback
import unittest

import make

HERE = os.path.dirname(os.path.abspath(__file__))
DECRYPT = os.path.join(HERE, "../../examples/decrypt.py")
KEY, OTHER_KEY = f"{HERE}/keys/master.key", f"{HERE}/keys/other.key"
V1, V2 = "v1-enc-frames-more", "v2-enc-none-frames"


def stored(name):
    return glob.glob(f"{HERE}/{name}/*/")[0].rstrip("/")


def read(path):
    with open(path, "rb") as f:
        return f.read()


def in_child(archive, key):
    """As a process of its own would run, but without importing everything again."""
    sys.argv = [DECRYPT, archive, key]
    try:
        runpy.run_path(DECRYPT, run_name="__main__")
        status = 0
    except SystemExit as e:
        status = e.code
    except BaseException:
        traceback.print_exc()
        status = 70
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def decrypt(archive, key=KEY):
    """Exit status, standard output, standard error."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if pid == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            in_child(archive, key)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        out.seek(0)
        err.seek(0)
        return status, out.read(), err.read().decode()


class Copy:
    """An archive that may be damaged."""

    def __init__(self, test, name):
        base = tempfile.mkdtemp(prefix="keepfs-golden.")
        test.addCleanup(shutil.rmtree, base)
        self.test, self.dir = test, f"{base}/{os.path.basename(stored(name))}"
        shutil.copytree(stored(name), self.dir)
        self.payload = read(f"{self.dir}/payload.bin")
        self.manifest = read(f"{self.dir}/manifest.yaml")
        _, self.content, _ = decrypt(stored(name))

    def frame(self, i):
        """A slice of the payload."""
        header, size = (9, make.F1 + 32) if self.payload[4] == 1 else (80, make.F2 + 16)
        return slice(header + i * size, header + (i + 1) * size)

    def fit(self, payload):
        """A manifest whose digest, size and MAC are right for `payload`."""
        digest = hashlib.sha256(payload).hexdigest().encode()
        text = re.sub(rb"(?m)^sha256: .*$", b"sha256: " + digest, self.manifest)
        text = re.sub(rb"(?m)^size_bytes: .*$", b"size_bytes: %d" % len(payload), text)
        return sign(text)

    def refused(self, why, payload=None, manifest=None, key=KEY):
        with open(f"{self.dir}/payload.bin", "wb") as f:
            f.write(self.payload if payload is None else payload)
        with open(f"{self.dir}/manifest.yaml", "wb") as f:
            f.write(self.manifest if manifest is None else manifest)
        status, out, err = decrypt(self.dir, key)
        self.test.assertEqual(status, 1, err)
        self.test.assertRegex(err, f"^decrypt.py: .*({why}).*\n$")
        self.test.assertTrue(self.content.startswith(out), "it wrote what was never in the stream")

    def refused_behind_digest(self, why, payload):
        self.refused("truncated|trailing bytes|sha256|damaged|wrong", payload)
        self.refused(why, payload, self.fit(payload))


def sign(text):
    if b"\nmanifest_mac: " not in text:
        return text
    key = make.hkdf(make.MASTER, b"", b"keepfs manifest mac v1" + make.STORE.encode(), 32)
    text = text[:text.index(b"manifest_mac: ")]
    return text + b"manifest_mac: v1:%s\n" % make.hmac.new(key, text, "sha256").hexdigest().encode()


def flip(data, at, bit=0):
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1:]


class Golden(unittest.TestCase):
    def test_what_is_kept_is_what_make_py_makes(self):
        with tempfile.TemporaryDirectory() as base:
            made = subprocess.run([sys.executable, f"{HERE}/make.py", base])
            if made.returncode == 77:
                self.skipTest("another version of zstd")
            self.assertEqual(made.returncode, 0)
            subprocess.run(["diff", "-r", "-x*.py", "-x__pycache__", HERE, base], check=True)

    def test_every_encrypted_archive_gives_its_stream(self):
        names = glob.glob("v[12]-enc-*", root_dir=HERE)
        self.assertGreater(len(names), 9)
        for name in names:
            with self.subTest(name):
                status, out, err = decrypt(stored(name))
                self.assertEqual((status, err), (0, ""))
                if b"algorithm: zstd" in read(f"{stored(name)}/manifest.yaml"):
                    out = subprocess.run(["zstd", "-dc"], input=out, stdout=subprocess.PIPE,
                                         check=True).stdout
                expected = read(f"{HERE}/{name}/content.sha256").split()[0].decode()
                self.assertEqual(hashlib.sha256(out).hexdigest(), expected)

    def test_unencrypted_archives_say_which_tool_reads_them(self):
        tools = {"v1-plain": "cat", "v2-plain-none": "cat", "v2-plain-zstd": "zstd -dc"}
        for name, tool in tools.items():
            path = stored(name)
            status, out, err = decrypt(path)
            self.assertEqual((status, out), (2, b""))
            self.assertIn(f"is not encrypted: {tool} {path}/payload.bin", err)
            content = subprocess.run([*tool.split(), f"{path}/payload.bin"],
                                     stdout=subprocess.PIPE, check=True).stdout
            expected = read(f"{HERE}/{name}/content.sha256").split()[0].decode()
            self.assertEqual(hashlib.sha256(content).hexdigest(), expected)

    def test_a_key_comes_from_a_file_or_from_a_variable(self):
        right = decrypt(stored(V2))
        os.environ["GOLDEN"] = make.MASTER.hex().upper() + "\n"
        for key in f"file:{KEY}", "env:GOLDEN":
            self.assertEqual(decrypt(stored(V2), key), right)
        for key in "env:NOT_THERE", "/nowhere", stored(V2) + "/manifest.yaml":
            status, out, err = decrypt(stored(V2), key)
            self.assertEqual((status, out, err.count("\n")), (1, b"", 1), err)

    def test_another_key_is_told_from_damage(self):
        Copy(self, V2).refused("wrong key: its id is", key=OTHER_KEY)
        Copy(self, V1).refused("damaged frame 0, or wrong key", key=OTHER_KEY)

    def test_another_directory_is_refused(self):
        for name in V1, V2:
            copy = Copy(self, name)
            moved = copy.dir[:-1] + "Z"
            os.rename(copy.dir, moved)
            copy.dir = moved
            copy.refused("wrong archive: the manifest is of")

    def test_the_payload_of_another_archive_is_refused(self):
        copy = Copy(self, V2)
        other = read(f"{stored('v2-enc-zstd')}/payload.bin")
        copy.refused("wrong archive: payload.bin", other, copy.fit(other))

    def test_a_signed_manifest_cannot_be_altered(self):
        copy = Copy(self, "v2-enc-ids")
        for at in range(0, len(copy.manifest), 2):
            copy.refused("manifest|wrong key", manifest=flip(copy.manifest, at, at % 7))
        cut = copy.manifest[:copy.manifest.index(b"manifest_mac")]
        copy.refused("manifest altered", manifest=cut)
        copy.refused("manifest altered", manifest=copy.manifest + b"more: 1\n")

    def test_a_manifest_without_what_is_needed_is_refused(self):
        for name in V1, "v2-enc-ids":
            copy = Copy(self, name)
            for key in b"manifest_version", b"backup_id", b"sha256", b"size_bytes":
                line = re.search(rb"(?m)^%s: .*\n" % key, copy.manifest)[0]
                without = sign(copy.manifest.replace(line, b""))
                copy.refused(f"manifest.yaml: '{key.decode()}' is missing", manifest=without)
                self.assertEqual(decrypt(copy.dir)[1], b"")
                copy.refused("there twice", manifest=sign(copy.manifest.replace(line, line * 2)))
        copy.refused("manifest.yaml: .*manifest_version: 3", manifest=sign(copy.manifest.replace(
            b"version: 2", b"version: 3")))

    def test_every_byte_of_a_small_payload_counts(self):
        for name in "v1-enc-empty", "v2-enc-none-empty", "v2-enc-none-one-byte":
            copy = Copy(self, name)
            for at in range(len(copy.payload)):
                flipped = flip(copy.payload, at)
                if name == "v1-enc-empty" and 5 <= at < 9:
                    # The frame size of v1 is in no tag: what fits in one frame fits in a larger.
                    copy.refused("sha256", flipped)
                else:
                    copy.refused_behind_digest("damaged|wrong archive|truncated", flipped)

    def test_a_header_of_the_wrong_form_is_called_damaged(self):
        copy = Copy(self, V2)
        for at in range(16):
            copy.refused_behind_digest("damaged header", flip(copy.payload, at))

    def test_what_a_writer_with_the_key_must_not_do_is_refused_too(self):
        copy = Copy(self, V1)
        wrong = make.envelope_v1(os.path.basename(copy.dir), [copy.content[:make.F1]])
        copy.refused_behind_digest("damaged|truncated", wrong)
        copy = Copy(self, V2)
        wrong = make.envelope_v2(os.path.basename(copy.dir), [copy.content[:make.F2], b""])
        copy.refused_behind_digest("frame 1 is empty", wrong)

    def test_damage_is_named_by_its_frame(self):
        for name in V1, V2:
            copy = Copy(self, name)
            for i in range(4):
                frame = copy.frame(i)
                for at in (frame.start, (frame.start + frame.stop) // 2, frame.stop - 1):
                    if at < len(copy.payload):
                        copy.refused_behind_digest(f"damaged frame {i}", flip(copy.payload, at))

    def test_a_digest_that_differs_alone_is_found(self):
        for name in V1, V2:
            copy = Copy(self, name)
            wrong = sign(re.sub(rb"sha256: ....", b"sha256: 0000", copy.manifest))
            with open(f"{copy.dir}/manifest.yaml", "wb") as f:
                f.write(wrong)
            status, _, err = decrypt(copy.dir)
            self.assertEqual(status, 1)
            self.assertIn("sha256", err)

    def test_frames_stay_in_their_order_and_number(self):
        for name in V1, V2:
            copy = Copy(self, name)
            p, f = copy.payload, [copy.payload[copy.frame(i)] for i in range(4)]
            head = p[:copy.frame(0).start]
            self.assertEqual(head + b"".join(f), p)
            copy.refused_behind_digest("damaged frame 0", head + f[1] + f[0] + f[2] + f[3])
            copy.refused_behind_digest("damaged frame 1", head + f[0] + f[0] + f[1] + f[2] + f[3])
            copy.refused_behind_digest("damaged frame 1", head + f[0] + f[2] + f[3])
            copy.refused_behind_digest("damaged frame 2|truncated", head + f[0] + f[1] + f[2])
            copy.refused_behind_digest("damaged frame 3|truncated", p + f[3])

    def test_every_length_but_the_right_one_is_refused(self):
        for name in V1, V2:
            copy = Copy(self, name)
            cuts = -1, 0, 1, 15, 16, 17, 31, 32
            ends = [copy.frame(i).start + d for i in range(4) for d in cuts]
            for length in [0, 1, 4, 5, *ends, len(copy.payload) - 1]:
                if length < len(copy.payload):
                    cut = copy.payload[:length]
                    copy.refused("truncated: payload.bin has", cut)
                    copy.refused("truncated|damaged", cut, copy.fit(cut))
            copy.refused("trailing bytes", copy.payload + b"x")
            more = copy.payload + b"x"
            copy.refused("damaged frame 3", more, copy.fit(more))

    def test_a_reader_that_leaves_is_no_reason_for_a_traceback(self):
        p = subprocess.Popen([sys.executable, DECRYPT, stored(V2), KEY], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
        p.stdout.read(1)
        p.stdout.close()
        err = p.stderr.read()
        self.assertNotEqual(p.wait(), 0)
        self.assertEqual(err, b"")
        p.stderr.close()

    def test_wrong_usage_has_a_status_of_its_own(self):
        p = subprocess.run([sys.executable, DECRYPT, stored(V2)], stderr=subprocess.PIPE)
        self.assertEqual(p.returncode, 2)
        self.assertIn(b"usage", p.stderr)


if __name__ == "__main__":
    unittest.main()
