# SPDX-License-Identifier: MIT
"""peers.py - other programs that make encrypted, compressed backups, each into a place of its own.

A peer is made for one backup: making it prepares an empty place (so nothing is known from an
earlier backup), run() is what is measured, stored() is what came of it, and remove() takes it away.
"""
import os
import shlex
import shutil
import subprocess

from lab import tree_size


class Peer:
    needs = ()  # programs

    @classmethod
    def missing(cls):
        return [name for name in cls.needs if not shutil.which(name)]

    def __init__(self, base, source):
        self.dir, self.source = os.path.join(base, self.name), source
        os.mkdir(self.dir)
        self.prepare()

    def call(self, *command, **env):
        p = subprocess.run(command, env=dict(os.environ, **env), stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert p.returncode == 0, p.stdout.decode()

    def stored(self):
        return tree_size(self.dir)

    def remove(self):
        shutil.rmtree(self.dir)


class Restic(Peer):
    name = "restic"
    needs = ("restic",)

    def restic(self, *command):
        self.call("restic", *command, RESTIC_PASSWORD="x", RESTIC_REPOSITORY=f"{self.dir}/repo",
                  RESTIC_CACHE_DIR=f"{self.dir}/cache")

    def prepare(self):
        self.restic("init", "-q", "--repository-version", "2")

    def run(self):
        self.restic("backup", "-q", "--compression", "auto", self.source)

    def stored(self):
        return tree_size(f"{self.dir}/repo")


class Borg(Peer):
    name = "borg"
    needs = ("borg",)

    def borg(self, *command):
        self.call("borg", *command, BORG_PASSPHRASE="x", BORG_BASE_DIR=f"{self.dir}/base",
                  BORG_REPO=f"{self.dir}/repo")

    def prepare(self):
        self.borg("init", "-e", "repokey-blake2")

    def run(self):
        self.borg("create", "-C", "zstd,3", "::backup", self.source)

    def stored(self):
        return tree_size(f"{self.dir}/repo")


class Pipe(Peer):
    """What a careful administrator writes: compressed, encrypted, with a digest, on the disk."""
    name = "pipe"
    needs = ("zstd", "openssl", "tar")

    def prepare(self):
        self.file = f"{self.dir}/backup"
        self.key = f"{self.dir}/key"
        with open(self.key, "w") as f:
            f.write(os.urandom(32).hex() + "\n")

    def run(self):
        source, file = shlex.quote(self.source), shlex.quote(self.file)
        read = f"tar -C {source} -cf - ." if os.path.isdir(self.source) else f"cat {source}"
        self.call("bash", "-c",
                  f"set -o pipefail; {read} | zstd -q -3 -T2"
                  f" | openssl enc -aes-256-ctr -pass file:{shlex.quote(self.key)} -pbkdf2"
                  f" | tee {file} | sha256sum >{file}.sha256 && sync {file}")

    def stored(self):
        return os.path.getsize(self.file)


ALL = (Restic, Borg, Pipe)
