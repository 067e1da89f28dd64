#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""check.py PRINT_ROWS MAN_DIRECTORY [--both] - do the man pages say what the program's tables say?

PRINT_ROWS prints the tables (print_rows.c). Each configuration key, file and error code has to be in
its page, in the right section, with its default, bounds, words, mode or exit status. With --both a
page must name nothing else either. keepfs.conf.5 has a key per `.It Cm KEY ... No = ...`; keepfs.5 a
file per `.It Pa NAME Pq MODE`; keepfs.1 a code per `.It STATUS Ta CODE`.
"""
import re
import subprocess
import sys

from page import Page
problems = []


def problem(path, text):
    problems.append(f"{path.rsplit('/', 1)[-1]}: {text}")


def find(page, section, name):
    found = page.find(section, name)
    if len(found) == 1:
        return found[0]
    problem(page.path, f"{name} is {len(found)} times in {section}")
    return None


SECTIONS = {"keepfs": "[keepfs]", "store": "[store ID]", "repo": "[repo STORE/NAME]"}


def check_key(page, section, key, kind, default, low, high, words):
    item = find(page, SECTIONS[section], key)
    if not item:
        return
    plain = re.sub(r"^\.(Cm|Ql|Dv|Pa|Xr) ", "", item[3], flags=re.M).replace("\n", " ")
    if default != "-" and f"Default: {default}." not in plain:
        problem(page.path, f"{key}: the default is {default}")
    if kind == "int" and f" {low} to {high}" not in plain:
        problem(page.path, f"{key}: it may be {low} to {high}")
    for word in words.split(",") if words != "-" else []:
        if not re.search(rf"[= |]\s*(Cm )?{re.escape(word)}( |$)", item[2]):
            problem(page.path, f"{key}: it may be {word}")


def check_file(page, directory, name, kind, mode):
    item = find(page, directory, name + "/" if kind == "dir" else name)
    wanted = {"link": "symlink"}.get(kind, mode)
    if item and item[2] != f"Pq {wanted}":
        problem(page.path, f"{directory}{name}: {item[2]}, and it is {wanted}")


def check_codes(path, codes):
    text = open(path, encoding="ascii").read()
    told = {(name, int(status)) for status, name in re.findall(r"^\.It (\d+) Ta (\w+) Ta", text, re.M)}
    for name, status in sorted(codes ^ told):
        problem(path, f"{name} ({status}) is in only one of page and program")


def main():
    program, man = sys.argv[1:3]
    rows = [l.split("\t") for l in subprocess.check_output([program], text=True).splitlines()]
    conf, tree = Page(man + "/keepfs.conf.5", "Cm"), Page(man + "/keepfs.5", "Pa")
    seen = {"key": set(), "file": set()}
    codes = set()
    for kind, *row in rows:
        if kind == "key":
            seen[kind].add(row[1])
            check_key(conf, *row)
        elif kind == "file":
            seen[kind].add(row[1])
            check_file(tree, *row)
        elif row[0]:
            codes.add((row[0], int(row[1])))
    check_codes(man + "/keepfs.1", codes)
    if "--both" in sys.argv:
        # `kind` is a row of its own of each section; upper case stands for an id.
        for page, known in ((conf, seen["key"] | {"kind"}), (tree, seen["file"])):
            for _, names, _, _ in page.items:
                for name in {n.rstrip("/") for n in names if not n.rstrip("/").isupper()} - known:
                    problem(page.path, f"there is no {name}")
    for p in problems:
        print(p)
    assert len(seen["key"]) > 30 and len(seen["file"]) > 50 and len(codes) > 30
    print(f"{len(rows)} rows, {len(problems)} problems")
    sys.exit(1 if problems else 0)


main()
