#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""walk.py MOUNT MAN_DIRECTORY - is every name on the mount in keepfs.5, as what it is?

Prints what is not, and a last line with the number of different names that were looked up.
"""
import os
import re
import stat
import sys

from page import Page

# These are full of symlinks to jobs, records and stores, by names that are no one's to list.
VIEWS = re.compile(r"(jobs/(active|by-key)|records/(by-store|by-date|pinned)|overdue"
                   r"|stores/[^/]+/(jobs|records|at))/")


def generic(path):
    """The path with words in the place of ids, as keepfs.5 has them."""
    path = re.sub(r"^(jobs|records)/[0-9A-Z]{26}(/|$)", r"\1/ID\2", path)
    path = re.sub(r"^stores/[^/]+(/|$)", r"stores/STORE\1", path)
    return re.sub(r"^(stores/STORE/repos)/[^/]+(/|$)", r"\1/REPO\2", path)


def main():
    mount, man = sys.argv[1:3]
    page = Page(man + "/keepfs.5", "Pa")
    seen, missing = set(), set()
    for top, directories, files in os.walk(mount):
        where = os.path.relpath(top, mount)
        where = "" if where == "." else where + "/"
        if VIEWS.match(where):
            directories.clear()
            continue
        for name in directories + files:
            mode = os.lstat(os.path.join(top, name)).st_mode
            section, _, word = generic(where + name).rpartition("/")
            section = section + "/" if section else "/"
            word += "/" if stat.S_ISDIR(mode) else ""
            seen.add((section, word))
            found = page.find(section, word)
            link = len(found) == 1 and found[0][2] == "Pq symlink"
            if len(found) != 1 or link != stat.S_ISLNK(mode):
                missing.add((section, word))
    for section, word in sorted(missing):
        print(f"{section} has {word}")
    print(len(seen))
    sys.exit(1 if missing else 0)


main()
