/* SPDX-License-Identifier: MIT */
/*
 * What a directory store's stream holds: it is unpacked with GNU tar and compared by rsync, or read
 * by libarchive.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "source/links.h"
#include "tree.h"

#include <archive.h>
#include <archive_entry.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>

static void the_table_of_kinds_finds_each_by_name(void **state)
{
    (void)state;
    assert_ptr_equal(source_kind_find("directory"), &directory_source);
    assert_ptr_equal(source_kind_find("sqlite"), &sqlite_source);
    assert_null(source_kind_find("director"));
    for (size_t i = 0; source_kinds[i]; i++) {
        assert_ptr_equal(source_kind_find(source_kinds[i]->name), source_kinds[i]);
        assert_true(*source_kinds[i]->help);
        for (const struct setting *row = source_kinds[i]->settings; row->key; row++)
            assert_true(*row->help);
    }
}

static void every_kind_of_file_comes_back_as_it_was(void **state)
{
    struct tree *t = *state;

    free(tree_shell(t, "cd src\n"
                       "mkdir -p plain empty deep/er/est\n"
                       "echo text >plain/file; : >plain/empty\n"
                       "ln -s plain/file relative; ln -s /nowhere dangling\n"
                       "ln -s \"$(printf 'x%.0s' $(seq 3000))\" long-target\n"
                       "ln -s \"$(printf 'caf\\303\\251')\" utf8-target\n"
                       "mkfifo fifo\n"
                       "head -c 3000001 /dev/urandom >big\n"
                       "head -c 1000 /dev/zero >zeros\n"
                       "chmod 4751 plain/file; chmod 2710 deep; chmod 1777 empty\n"
                       "chmod $(test $(id -u) = 0 && echo 000 || echo 400) plain/empty\n"
                       "touch -d '1999-12-31 23:59:59.123456789' plain/file deep/er/est\n"
                       "touch -d '1965-01-02 03:04:05' zeros\n"
                       "touch -d '2200-01-02 03:04:05.5' deep/er\n"
                       "touch -hd '2001-02-03 04:05:06' relative\n"));
    if (geteuid() == 0)
        free(tree_shell(t,
                        "cd src; mknod block b 7 200; mknod char c 1 3; mknod big-dev c 500 70000\n"
                        "chown 12345:54321 big; chown 3000000:3000001 zeros\n"
                        "chown -h 12345:54321 dangling\n"));
    tree_backup(t);
    free(tree_shell(t, TREE_UNPACK)); /* it has an opinion on such dates */
    tree_prints(t, TREE_DIFF, "");
    assert_int_equal(stats_get(&t->stats, "files"), 4);
    assert_int_equal(stats_get(&t->stats, "directories"), 6);
    assert_int_equal(stats_get(&t->stats, "symlinks"), 4);
    assert_int_equal(stats_get(&t->stats, "other"), geteuid() == 0 ? 4 : 1);
    assert_string_equal(buf_text(&t->log), "");
}

static void names_of_any_bytes_come_back_as_they_were(void **state)
{
    struct tree *t = *state;

    free(tree_shell(
        t, "cd src\n"
           "touch -- -dash \"$(printf 'new\\nline')\" \"$(printf 'tab\\there')\" ' blank '\n"
           "touch \"$(printf 'invalid\\377\\376utf8')\" \"$(printf '\\303\\251')\"\n"
           "touch \"$(printf 'surrogate\\355\\240\\275\\355\\270\\200')\"\n"
           "touch 'back\\slash' 'quote\"' '*' '%41' '=eq='\n"
           "touch \"$(printf 'n%.0s' $(seq 255))\" \"$(printf '\\303\\251%.0s' $(seq 127))\"\n"
           "ln -s \"$(printf 'to\\377')\" link-to-invalid\n"
           "ln \"$(printf 'invalid\\377\\376utf8')\" z-hard-link-to-invalid\n"
           "d=$(printf 'd%.0s' $(seq 250)); mkdir -p $d/$d/$d; echo x >$d/$d/$d/file\n"));
    tree_backup(t);
    /* GNU tar does not know the word that marks such names, and says so. */
    free(tree_shell(t, TREE_UNPACK));
    tree_prints(t, TREE_DIFF, "");
    assert_string_equal(buf_text(&t->log), "");
}

static void gnu_tar_has_nothing_to_say_about_utf8_names(void **state)
{
    struct tree *t = *state;

    free(tree_shell(
        t,
        "cd src; touch \"$(printf 'caf\\303\\251')\" plain; mkdir \"$(printf '\\346\\227\\245')\"\n"
        "ln -s \"$(printf '\\346\\227\\245')\" link"));
    tree_backup(t);
    tree_restores(t);
    tree_prints(t, "tar -df stream.tar -C src && grep -ac BINARY stream.tar || true", "0");
}

static void hard_links_are_stored_once(void **state)
{
    struct tree *t = *state;

    free(tree_shell(
        t,
        "cd src; mkdir a b; head -c 1000000 /dev/urandom >a/one; ln a/one b/two; ln a/one c\n"
        "ln -s x link; ln link link2; mkfifo p; ln p q; echo outside >../other; ln ../other here\n"
        "setfattr -n user.k -v v a/one"));
    tree_backup(t);
    tree_restores(t);
    assert_int_equal(stats_get(&t->stats, "hardlinks"), 4);
    assert_int_equal(stats_get(&t->stats, "files"), 2);
    assert_true(t->written < 1100000);
    tree_prints(t, "stat -c %h out/c out/q out/link2 out/here | xargs", "3 2 2 1");
}

static void a_reused_inode_number_is_not_taken_for_a_link(void **state)
{
    struct links *l = links_new();
    struct link_id old = {.dev = 1, .ino = 2, .birth_sec = 3, .birth_nsec = 4}, new = old;

    (void)state;
    new.birth_nsec = 5;
    assert_true(links_add(l, &old, "old", 3));
    assert_null(links_find(l, &new));
    assert_string_equal(links_find(l, &old), "old");
    assert_string_equal(links_find(l, &old), "old");
    assert_null(links_find(l, &old));
    for (ino_t i = 10; i < 5000; i++) {
        struct link_id id = {.dev = 1, .ino = i};
        char path[16];
        snprintf(path, sizeof path, "%d", (int)i);
        assert_true(links_add(l, &id, path, 2));
    }
    for (ino_t i = 10; i < 5000; i += 7) {
        struct link_id id = {.dev = 1, .ino = i};
        const char *path = links_find(l, &id);
        assert_non_null(path);
        assert_int_equal(atoi(path), i);
    }
    links_free(l);
}

static void attributes_of_every_namespace_come_back(void **state)
{
    struct tree *t = *state;

    free(tree_shell(
        t, "cd src; touch file; mkdir dir; mkfifo fifo; ln -s x link\n"
           "setfattr -n user.text -v blue file; setfattr -n user.empty file\n"
           "setfattr -n user.binary -v 0x00ff0a3d00 file; setfattr -n user.dir -v yes dir\n"
           "setfattr -n user.long -v \"$(printf 'v%.0s' $(seq 3000))\" file"));
    if (geteuid() == 0)
        free(tree_shell(
            t,
            "cd src; setfattr -n trusted.keepfs -v secret file\n"
            "setfattr -h -n trusted.onlink -v yes link; setfattr -n trusted.onfifo -v yes fifo\n"
            "setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 file"));
    tree_backup(t);
    tree_restores(t);
    tree_prints(
        t, "getfattr --absolute-names -e hex --only-values -n user.binary out/file | od -An -tx1",
        " 00 ff 0a 3d 00");
    if (geteuid() == 0)
        tree_prints(t,
                    "getfattr -h --only-values -n trusted.onlink out/link; getfattr --only-values "
                    "-n trusted.onfifo out/fifo",
                    "yesyes");
}

static void acls_come_back(void **state)
{
    struct tree *t = *state;

    free(tree_shell(t,
                    "cd src; touch file masked; mkdir dir dir/default; mkfifo fifo\n"
                    "setfacl -m u:nobody:r,g:daemon:rw,u:54321:x file\n"
                    "chmod 640 masked; setfacl -m u:nobody:rwx,m::r masked\n"
                    "setfacl -m u:nobody:rwx dir; setfacl -d -m u:nobody:rx,g:4242:w dir/default\n"
                    "setfacl -m u:nobody:w fifo"));
    tree_backup(t);
    tree_restores(t);
    tree_prints(t, "(cd src; getfacl -Rn .) >1; (cd out; getfacl -Rn .) >2; diff 1 2", "");
    tree_prints(t, "getfacl -cn out/file | grep -c nobody; getfacl -cn out/file | grep user:54321",
                "0\nuser:54321:--x");
}

static void sparse_files_stay_sparse(void **state)
{
    struct tree *t = *state;

    free(tree_shell(t,
                    "cd src; truncate -s 9G ends all; truncate -s 6G holes; printf end | dd "
                    "of=ends bs=1 seek=9663676413 "
                    "conv=notrunc status=none\n"
                    "printf start >starts; truncate -s 300M starts\n"
                    "printf mid | dd of=holes bs=1 seek=5G conv=notrunc status=none\n"
                    "dd status=none if=/dev/urandom of=holes bs=4096 seek=100 count=3 conv=notrunc "
                    "status=none\n"
                    "d=$(printf 'd%.0s' $(seq 200)); mkdir $d; truncate -s 200M small; printf mid "
                    "| dd of=small bs=1 seek=100M conv=notrunc status=none; mv small $d/$d$(printf "
                    "'\\303\\251')"));
    tree_backup(t);
    assert_true(t->written < 1000000);
    tree_restores(t);
    tree_prints(t,
                "test $(du -s --block-size=1 out | cut -f1) -lt 2000000; cmp -n 1000000 src/holes "
                "out/holes\n"
                "tail -c 3 out/ends; head -c 5 out/starts; dd if=out/holes bs=1M skip=5120 count=1 "
                "status=none | head -c 3",
                "endstartmid");
}

static void libarchive_reads_it_back(void **state)
{
    struct tree *t = *state;
    struct archive *a = archive_read_new();
    struct archive_entry *e;
    struct buf names = BUF_INIT;
    char text[8];

    free(tree_shell(t, "cd src; mkdir -p a/b empty; touch A a! a.file a/b/z; printf hello >a/c\n"
                       "setfattr -n user.k -v v a/c; touch -d '2020-01-01 00:00:00.25 UTC' a/c"));
    tree_backup(t);
    assert_int_equal(archive_read_support_format_tar(a), ARCHIVE_OK);
    assert_int_equal(archive_read_open_filename(a, t->tar, 65536), ARCHIVE_OK);
    while (archive_read_next_header(a, &e) == ARCHIVE_OK) {
        buf_addf(&names, "%s\n", archive_entry_pathname(e));
        assert_false(archive_entry_atime_is_set(e));
        assert_false(archive_entry_ctime_is_set(e));
        if (strcmp(archive_entry_pathname(e), "a/c") != 0)
            continue;
        assert_int_equal(archive_entry_mtime(e), 1577836800);
        assert_int_equal(archive_entry_mtime_nsec(e), 250000000);
        assert_int_equal(archive_entry_xattr_reset(e), 1);
        assert_int_equal(archive_read_data(a, text, sizeof text), 5);
        assert_memory_equal(text, "hello", 5);
    }
    assert_null(archive_error_string(a));
    archive_read_free(a);
    assert_string_equal(buf_text(&names), "./\nA\na/\na/b/\na/b/z\na/c\na!\na.file\nempty/\n");
    buf_release(&names);
}

static void names_are_sorted_by_bytes(void **state)
{
    struct tree *t = *state;

    free(
        tree_shell(t, "cd src; touch b B _ \"$(printf '\\377')\" \"$(printf '\\303\\251')\" 10 9"));
    tree_backup(t);
    tree_prints(t, "LC_ALL=C tar -tf stream.tar 2>/dev/null | xargs -d '\\n'",
                "./ 10 9 B _ b \\303\\251 \\377");
}

static void equal_trees_give_equal_streams(void **state)
{
    struct tree *t = *state;
    char *copy = xasprintf("%s/copy", t->dir);

    free(tree_shell(t, "cd src; mkdir -p d/e; for i in $(seq 300); do echo $i >d/$i; done\n"
                       "ln d/1 d/e/hard; ln -s x d/link; setfattr -n user.b -v 1 d/2; setfattr -n "
                       "user.a -v 2 d/2\n"
                       "cp -a . ../copy"));
    tree_backup(t);
    free(tree_shell(t, "mv stream.tar first.tar; cat src/d/1* src/d/e/hard >/dev/null"));
    tree_backup(t);
    tree_prints(t, "cmp stream.tar first.tar", "");
    settings_release(&t->store.settings);
    tree_set(t, "path", copy);
    tree_backup(t);
    tree_prints(t, "cmp stream.tar first.tar", "");
    free(copy);
}

static void an_empty_directory_is_an_archive_of_one_entry(void **state)
{
    struct tree *t = *state;

    tree_backup(t);
    tree_prints(t, "tar -tf stream.tar", "./");
    tree_restores(t);
    assert_int_equal(t->stats.count, 5);
    assert_int_equal(stats_get(&t->stats, "directories"), 1);
    for (size_t i = 0; i < t->stats.count; i++)
        assert_true(strstr("files directories vanished changed unreadable", t->stats.items[i].key));
}

static void sockets_are_left_out_and_counted(void **state)
{
    struct tree *t = *state;

    free(tree_shell(t, "cd src; touch a z; python3 -c '\n"
                       "import socket\n"
                       "socket.socket(socket.AF_UNIX).bind(\"s\\nock\")'"));
    tree_backup(t);
    tree_prints(t, "tar -tf stream.tar | xargs", "./ a z");
    assert_int_equal(stats_get(&t->stats, "sockets_skipped"), 1);
    assert_string_equal(buf_text(&t->log), "s\\x0aock: is a socket; it is not stored\n");
}

struct exclusion {
    const char *patterns[3];
    const char *left; /* of the tree below */
};

static void exclude_leaves_out_what_it_names(void **state)
{
    static const struct exclusion cases[] = {
        {{"*.o"}, "./ a.c cache/ cache/deep/ cache/deep/x src/ src/cache/ src/cache/y"},
        {{"cache"}, "./ a.c a.o src/ src/b.o"},
        {{"/cache"}, "./ a.c a.o src/ src/b.o src/cache/ src/cache/y"},
        {{"/cache/"}, "./ a.c a.o src/ src/b.o src/cache/ src/cache/y"},
        {{"cache/"}, "./ a.c a.o src/ src/b.o"},
        {{"src/cache"}, "./ a.c a.o cache/ cache/deep/ cache/deep/x src/ src/b.o"},
        {{"src/*", "/*.o"}, "./ a.c cache/ cache/deep/ cache/deep/x src/"},
        {{"*/y"}, "./ a.c a.o cache/ cache/deep/ cache/deep/x src/ src/b.o src/cache/ src/cache/y"},
        {{"[ab].[oc]", "deep"}, "./ cache/ src/ src/cache/ src/cache/y"},
        {{"/"}, "./ a.c a.o cache/ cache/deep/ cache/deep/x src/ src/b.o src/cache/ src/cache/y"},
        {{"."}, "./ a.c a.o cache/ cache/deep/ cache/deep/x src/ src/b.o src/cache/ src/cache/y"},
    };
    struct tree *t = *state;

    free(tree_shell(t, "cd src; mkdir -p cache/deep src/cache\n"
                       "touch a.o a.c cache/deep/x src/cache/y src/b.o"));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        settings_release(&t->store.settings);
        tree_set(t, "path", t->src);
        for (size_t k = 0; cases[i].patterns[k]; k++)
            tree_set(t, "exclude", cases[i].patterns[k]);
        tree_backup(t);
        tree_prints(t, "tar -tf stream.tar | xargs", cases[i].left);
    }
    assert_int_equal(stats_get(&t->stats, "excluded"), 0);
}

static void what_is_excluded_is_counted_once_and_not_entered(void **state)
{
    struct tree *t = *state;

    free(tree_shell(t, "cd src; mkdir cache; touch cache/1 cache/2 x.o"));
    tree_set(t, "exclude", "cache");
    tree_set(t, "exclude", "*.o");
    tree_backup(t);
    assert_int_equal(stats_get(&t->stats, "excluded"), 2);
}

/* A chain of `levels` directories, each named by `len` letters, below src/. */
static void make_chain(struct tree *t, int levels, int len)
{
    int fd = open(t->src, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char name[256];

    memset(name, 'd', (size_t)len);
    name[len] = '\0';
    for (int i = 0; i < levels; i++) {
        assert_int_equal(mkdirat(fd, name, 0755), 0);
        int next = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(next >= 0);
        fd_close(&fd);
        fd = next;
    }
    int file = openat(fd, "bottom", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_int_equal(fd_write_all(file, "deep down", 9), 0);
    fd_close(&file);
    fd_close(&fd);
}

/* False if this process may not have that many descriptors. */
static bool allow_descriptors(rlim_t n, struct rlimit *before)
{
    struct rlimit more;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, before), 0);
    more = *before;
    if (more.rlim_max < n)
        return false;
    more.rlim_cur = n;
    return setrlimit(RLIMIT_NOFILE, &more) == 0;
}

static void trees_two_thousand_levels_deep_are_whole(void **state)
{
    struct tree *t = *state;
    struct rlimit before;

    if (!allow_descriptors(2200, &before))
        skip();
    make_chain(t, 2000, 20); /* a path of 42,000 bytes */
    tree_backup(t);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(stats_get(&t->stats, "directories"), 2001);
    tree_prints(t,
                "python3 -c '\n"
                "import tarfile\n"
                "t = tarfile.open(\"stream.tar\")\n"
                "m = t.getmembers()[-1]\n"
                "print(m.name == \"d\" * 20 + (\"/\" + \"d\" * 20) * 1999 + \"/bottom\", "
                "t.extractfile(m).read())'",
                "True b'deep down'");
}

static void a_tree_that_is_too_deep_is_refused_by_name(void **state)
{
    struct tree *t = *state;
    struct rlimit before;

    if (!allow_descriptors(LIMIT_TREE_DEPTH + 100, &before))
        skip();
    tree_set(t, "unreadable", "warn");
    make_chain(t, LIMIT_TREE_DEPTH, 1);
    size_t open_before = open_descriptors();
    tree_fails(t, ERR_SOURCE_UNAVAILABLE, "is nested deeper than 4096 directories: exclude it");
    assert_int_equal(open_descriptors(), open_before);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

static void what_the_process_lacks_fails_it_whatever_the_policy(void **state)
{
    struct tree *t = *state;
    struct rlimit before;

    make_chain(t, 100, 5);
    tree_set(t, "unreadable", "warn");
    assert_true(allow_descriptors(open_descriptors() + 50, &before));
    struct error err;
    int result = tree_try(t, &err);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(result, -1);
    assert_int_equal(err.errnum, EMFILE);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, tree_setup, tree_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_of_kinds_finds_each_by_name),
        CASE(every_kind_of_file_comes_back_as_it_was),
        CASE(names_of_any_bytes_come_back_as_they_were),
        CASE(gnu_tar_has_nothing_to_say_about_utf8_names),
        CASE(hard_links_are_stored_once),
        cmocka_unit_test(a_reused_inode_number_is_not_taken_for_a_link),
        CASE(attributes_of_every_namespace_come_back),
        CASE(acls_come_back),
        CASE(sparse_files_stay_sparse),
        CASE(libarchive_reads_it_back),
        CASE(names_are_sorted_by_bytes),
        CASE(equal_trees_give_equal_streams),
        CASE(an_empty_directory_is_an_archive_of_one_entry),
        CASE(sockets_are_left_out_and_counted),
        CASE(exclude_leaves_out_what_it_names),
        CASE(what_is_excluded_is_counted_once_and_not_entered),
        CASE(trees_two_thousand_levels_deep_are_whole),
        CASE(a_tree_that_is_too_deep_is_refused_by_name),
        CASE(what_the_process_lacks_fails_it_whatever_the_policy),
    };

    umask(022);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
