/* SPDX-License-Identifier: MIT */
/*
 * test_config.c - what a configuration may say, and how each fault in it is told.
 */
#include "config_fixture.h"

/* Eight lines that are right by themselves: what is under test begins at line 9. */
#define HEAD                                                                                       \
    "[keepfs]\n"                                                                                   \
    "state = @/state\n"                                                                            \
    "[store app]\n"                                                                                \
    "kind = pipe\n"                                                                                \
    "command = dump\n"                                                                             \
    "[repo app/cloud]\n"                                                                           \
    "kind = cloud\n"                                                                               \
    "bucket = app\n"

/* ---- what is right ---- */

static void a_whole_file_gives_stores_and_repos_in_its_order(void **state)
{
    (void)state;
    make_dir("@/real");
    make_symlink("@/real", "@/link");
    struct config *c = load_good("\xef\xbb\xbf# a comment\r\n"
                                 "; another = one\n"
                                 "[keepfs] ; a comment\n"
                                 "\tstate = @/state//x/ ; behind a value\n"
                                 "max_jobs=3\n"
                                 "[repo web/far]\n"
                                 "kind = cloud\n"
                                 "bucket = a  b;c # d\n"
                                 "  [ store   web ]  \n"
                                 "  path = @/link/./web\n"
                                 "  kind = dir\r\n"
                                 "  exclude = *.o\n"
                                 "  mode = fast\n"
                                 "  exclude = two words\n"
                                 "[store a.b-c_9]\n"
                                 "kind = pipe\n"
                                 "command = x\n"
                                 "[repo web/near]\n"
                                 "keep = 0\n"
                                 "kind = disk\n"
                                 "path = @/repo\n"
                                 "[repo a.b-c_9/far]\n"
                                 "bucket = other\n"
                                 "kind = cloud");

    char *place = expand("@/real/web"), *where = expand("@/state/x");
    assert_string_equal(c->path, file);
    assert_string_equal(c->state, where);
    assert_int_equal(settings_int(&c->settings, "max_jobs"), 3);
    assert_int_equal(settings_int(&c->settings, "max_queue"), 1024);
    assert_int_equal(c->store_count, 2);

    struct store *web = c->stores[0];
    assert_ptr_equal(web, config_store(c, "web"));
    assert_ptr_equal(web->kind, &dir_kind);
    assert_int_equal(web->line, 9);
    assert_string_equal(web->place, place);
    assert_string_equal(settings_text(&web->settings, "mode"), "fast");
    assert_int_equal(settings_int(&web->settings, "level"), 3);
    const struct setting_value *v = settings_next(&web->settings, "exclude", NULL);
    assert_string_equal(v->text, "*.o");
    v = settings_next(&web->settings, "exclude", v);
    assert_string_equal(v->text, "two words");
    assert_int_equal(v->line, 14);
    assert_null(settings_next(&web->settings, "exclude", v));

    assert_int_equal(web->repo_count, 2);
    struct repo *far = store_repo(web, "far"), *near = store_repo(web, "near");
    assert_ptr_equal(web->repos[0], far);
    assert_ptr_equal(far->store, web);
    assert_ptr_equal(far->kind, &cloud_kind);
    assert_string_equal(far->place, "a  b;c # d");
    assert_int_equal(near->line, 18);
    assert_int_equal(settings_int(&near->settings, "keep"), 0);

    struct store *other = config_store(c, "a.b-c_9");
    assert_null(other->place);
    assert_int_equal(other->repo_count, 1);
    assert_null(config_store(c, "we"));
    assert_null(store_repo(other, "near"));
    assert_int_not_equal(other->group, web->group);
    config_free(c);
    free(place);
    free(where);
}

static void an_empty_file_is_a_configuration_of_nothing(void **state)
{
    (void)state;
    struct config *c = load_good("");

    assert_int_equal(c->store_count, 0);
    assert_int_equal(settings_int(&c->settings, "max_jobs"), 2);
    config_free(c);
}

static void ids_are_checked(void **state)
{
    (void)state;
    char longest[LIMIT_ID + 2];

    memset(longest, 'a', sizeof longest);
    longest[LIMIT_ID + 1] = '\0';
    assert_false(id_valid(longest));
    longest[LIMIT_ID] = '\0';
    assert_true(id_valid(longest));
    assert_true(id_valid("0"));
    assert_true(id_valid("a.b_c-9"));
    static const char *const bad[] = {"", ".a", "-a", "_a", "A", "aB", "a b", "a/b", "\xc3\xa4"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(id_valid(bad[i]));
}

static void the_longest_ids_are_kept_whole(void **state)
{
    (void)state;
    char id[LIMIT_ID + 1], text[1024];

    memset(id, 'x', LIMIT_ID);
    id[LIMIT_ID] = '\0';
    snprintf(text, sizeof text,
             "[store %s]\nkind = pipe\ncommand = x\n[repo %s/%s]\nkind = cloud\nbucket = b\n", id,
             id, id);
    struct config *c = load_good(text);
    assert_non_null(store_repo(config_store(c, id), id));
    config_free(c);
}

static void lines_are_kept_whole_up_to_the_ceiling_and_refused_above(void **state)
{
    (void)state;
    char line[LIMIT_CONFIG_LINE + 2];
    struct buf text = BUF_INIT;

    memset(line, 'v', sizeof line);
    memcpy(line, "command=", 8);
    line[LIMIT_CONFIG_LINE] = '\0';
    buf_addf(&text, "[store a]\nkind = pipe\n%s\n[repo a/b]\nkind = cloud\nbucket = b\n", line);
    struct config *c = load_good(buf_text(&text));
    assert_string_equal(settings_text(&c->stores[0]->settings, "command"), line + 8);
    config_free(c);

    line[LIMIT_CONFIG_LINE] = 'v';
    line[LIMIT_CONFIG_LINE + 1] = '\0';
    buf_release(&text);
    buf_addf(&text, HEAD "#%s\nx\n", line);
    assert_faults(buf_text(&text),
                  "9: a line of 4098 bytes; allowed: up to 4096\n"
                  "10: a line without \"=\"; allowed: KEY = VALUE, [SECTION], or a comment behind "
                  "# or ;\n");
    buf_release(&text);
}

/* ---- [defaults] ---- */

static void defaults_reach_the_sections_that_have_the_key_and_do_not_give_it(void **state)
{
    (void)state;
    struct config *c = load_good("[store one]\nkind = dir\npath = @/one\n"
                                 "[repo one/r]\nkind = disk\npath = @/r1\n"
                                 "[store two]\nkind = dir\npath = @/two\n"
                                 "level = 9\nexclude = mine\n"
                                 "[repo two/r]\nkind = disk\npath = @/r2\nkeep = 5\n"
                                 "[store three]\nkind = pipe\ncommand = x\n"
                                 "[repo three/r]\nkind = cloud\nbucket = b\n"
                                 "[defaults]\nlevel = 4\nexclude = a\nexclude = b\nkeep = 8\n");
    const struct settings *one = &config_store(c, "one")->settings;
    const struct settings *two = &config_store(c, "two")->settings;

    assert_int_equal(settings_int(one, "level"), 4);
    assert_int_equal(settings_int(two, "level"), 9);
    assert_int_equal(settings_int(&config_store(c, "three")->settings, "level"), 4);
    const struct setting_value *v = settings_next(one, "exclude", NULL);
    assert_string_equal(v->text, "a");
    assert_string_equal(settings_next(one, "exclude", v)->text, "b");
    v = settings_next(two, "exclude", NULL);
    assert_string_equal(v->text, "mine");
    assert_null(settings_next(two, "exclude", v));
    assert_int_equal(settings_int(&store_repo(c->stores[0], "r")->settings, "keep"), 8);
    assert_int_equal(settings_int(&store_repo(c->stores[1], "r")->settings, "keep"), 5);
    assert_int_equal(settings_int(&store_repo(c->stores[2], "r")->settings, "keep"), 8);
    config_free(c);
}

static void defaults_take_neither_kind_nor_places_nor_strangers(void **state)
{
    (void)state;
#define ALLOWED                                                                                    \
    POLICY_KEYS ", " REPO_KEYS ", " STORE_KEYS                                                     \
                ", exclude, level, mode, strict, command, keep, bucket\n"
    assert_faults(HEAD "[defaults]\nkind = dir\npath = /x\nscratch = /y\nfoo = 1\n",
                  "10: key kind cannot stand in [defaults]; allowed: " ALLOWED
                  "11: key path cannot stand in [defaults]; allowed: " ALLOWED
                  "12: key scratch cannot stand in [defaults]; allowed: " ALLOWED
                  "13: key foo cannot stand in [defaults]; allowed: " ALLOWED);
#undef ALLOWED
}

static void a_bad_default_is_reported_once_though_nobody_uses_it(void **state)
{
    (void)state;
    assert_faults(
        HEAD "[defaults]\nmode = medium\nkeep = 1001\nlevel = 5\nlevel = 6\n",
        "10: mode = medium is not a word it takes; allowed: fast, slow\n"
        "11: keep = 1001 is out of range; allowed: a number from 0 to 1000\n"
        "13: duplicate key level in [defaults], given at line 12 already; allowed: once\n");
}

static void a_default_that_suits_another_kind_is_reported_at_the_section(void **state)
{
    (void)state;
    assert_faults(HEAD "[defaults]\nlevel = 12\n"
                       "[store d]\nkind = dir\npath = @/d\n"
                       "[repo d/r]\nkind = disk\npath = @/r\nkeep = 1\n",
                  "11: [store d] takes from [defaults], line 10: level = 12 is out of range; "
                  "allowed: a number from 1 to 9\n");
}

/* ---- what is wrong in the text ---- */

static void unknown_sections_are_refused(void **state)
{
    (void)state;
#define ALLOWED "allowed: [keepfs], [defaults], [store ID], [repo STORE/NAME]\n"
    assert_faults(HEAD "[stor x]\nkey = 1\n[]\n[keepfs x]\n[Store x]\n[stores x]\n",
                  "9: unknown section [stor x]; " ALLOWED "11: unknown section []; " ALLOWED
                  "12: unknown section [keepfs x]; " ALLOWED
                  "13: unknown section [Store x]; " ALLOWED
                  "14: unknown section [stores x]; " ALLOWED);
#undef ALLOWED
}

static void bad_ids_are_refused(void **state)
{
    static const struct {
        const char *section, *form;
    } bad[] = {
        {"store App", "store ID"},          {"store", "store ID"},
        {"store a b", "store ID"},          {"store ../x", "store ID"},
        {"repo app", "repo STORE/NAME"},    {"repo app/", "repo STORE/NAME"},
        {"repo /x", "repo STORE/NAME"},     {"repo app/x/y", "repo STORE/NAME"},
        {"repo app/.x", "repo STORE/NAME"},
    };
    struct buf text = BUF_INIT, faults = BUF_INIT;

    (void)state;
    buf_adds(&text, HEAD);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        buf_addf(&text, "[%s]\n", bad[i].section);
        buf_addf(&faults,
                 "%zu: bad id in [%s]; allowed: [%s], each id 1 to 64 of a-z 0-9 . _ - and "
                 "beginning with a letter or digit\n",
                 i + 9, bad[i].section, bad[i].form);
    }
    assert_faults(buf_text(&text), buf_text(&faults));
    buf_release(&text);
    buf_release(&faults);
}

static void bad_headers_are_refused(void **state)
{
    (void)state;
#define WORDS "bad section header; allowed: a name in [ and ], behind it at most \" ; a comment\"\n"
    assert_faults(HEAD "[store x\n[store x] kind = dir\n[store x];\n[store x] # no\n",
                  "9: " WORDS "10: " WORDS "11: " WORDS "12: " WORDS);
#undef WORDS
}

static void lines_that_are_no_pairs_are_refused(void **state)
{
    (void)state;
#define WORDS "a line without \"=\"; allowed: KEY = VALUE, [SECTION], or a comment behind # or ;\n"
    assert_faults(HEAD "just words\n   # fine\n = 5\npath ; = /x\nlast",
                  "9: " WORDS "11: no key before \"=\"; allowed: KEY = VALUE\n"
                  "12: " WORDS "13: " WORDS);
#undef WORDS
}

static void keys_before_any_section_are_refused(void **state)
{
    (void)state;
    assert_faults("max_jobs = 2\n" HEAD,
                  "1: key max_jobs before any section; allowed: keys behind [keepfs], [defaults], "
                  "[store ID] or [repo STORE/NAME]\n");
}

static void pairs_behind_a_bad_header_are_not_those_of_the_section_before(void **state)
{
    (void)state;
    assert_faults(HEAD "[stor x]\nbucket = stolen\n",
                  "9: unknown section [stor x]; allowed: [keepfs], [defaults], [store ID], [repo "
                  "STORE/NAME]\n");
}

static void nul_bytes_are_refused(void **state)
{
    (void)state;
    struct buf faults = BUF_INIT;
    static const char text[] = "[keepfs]\nmax_jobs = 2\0x\nmax_queue = 9\n";

    write_config(text, sizeof text - 1);
    assert_null(config_load(file, NULL, &faults));
    char *wanted = expand("@/keepfs.conf:2: a NUL byte; allowed: text\n");
    assert_string_equal(buf_text(&faults), wanted);
    free(wanted);
    buf_release(&faults);
}

static void control_characters_are_escaped_in_faults(void **state)
{
    (void)state;
    assert_faults(HEAD "[st\033[2Jor]\n",
                  "9: unknown section [st\\x1b[2Jor]; allowed: [keepfs], [defaults], [store ID], "
                  "[repo STORE/NAME]\n");
}

static void files_that_cannot_be_read_give_one_line(void **state)
{
    (void)state;
    struct buf faults = BUF_INIT;

    assert_null(config_load("/nonexistent/keepfs.conf", NULL, &faults));
    assert_string_equal(buf_text(&faults),
                        "/nonexistent/keepfs.conf: cannot be read: No such file or directory; "
                        "allowed: a text file\n");
    buf_truncate(&faults, 0);
    assert_null(config_load("/", NULL, &faults));
    assert_string_equal(buf_text(&faults),
                        "/: cannot be read: it is not a regular file; allowed: a text file\n");
    buf_truncate(&faults, 0);
    assert_null(config_load("/dev/zero", NULL, &faults));
    assert_string_equal(
        buf_text(&faults),
        "/dev/zero: cannot be read: it is not a regular file; allowed: a text file\n");
    buf_release(&faults);
}

static void a_huge_file_is_refused(void **state)
{
    (void)state;
    struct buf faults = BUF_INIT;

    write_config("", 0);
    assert_int_equal(truncate(file, ((off_t)64 << 20) + 1), 0);
    assert_null(config_load(file, NULL, &faults));
    assert_non_null(strstr(buf_text(&faults), ": too large; allowed: up to 67108864 bytes\n"));
    buf_release(&faults);
}

static void a_pipe_is_read_like_a_file(void **state)
{
    (void)state;
    struct buf faults = BUF_INIT;
    char path[64];
    int ends[2];

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    static const char text[] = "[keepfs]\nmax_jobs = 5\n";
    assert_int_equal(fd_write_all(ends[1], text, sizeof text - 1), 0);
    close(ends[1]);
    snprintf(path, sizeof path, "/dev/fd/%d", ends[0]);
    struct config *c = config_load(path, NULL, &faults);
    close(ends[0]);
    assert_non_null(c);
    assert_int_equal(settings_int(&c->settings, "max_jobs"), 5);
    config_free(c);
    buf_release(&faults);
}

/* ---- what is wrong in sections ---- */

static void unknown_keys_are_refused_with_those_of_the_kind(void **state)
{
    (void)state;
    assert_faults("[keepfs]\nstat = /x\n"
                  "[store d]\npth = /x\nkind = dir\npath = @/d\ncommand = x\n"
                  "[repo d/r]\nkind = cloud\nbucket = b\npath = /x\n",
                  "2: unknown key stat in [keepfs]; allowed: state, max_jobs, max_queue, "
                  "job_history, control_group, read_group\n"
                  "4: unknown key pth in [store d]; allowed: kind, path, exclude, level, mode, "
                  "strict, scratch, " STORE_KEYS "\n"
                  "7: unknown key command in [store d]; allowed: kind, path, exclude, level, mode, "
                  "strict, scratch, " STORE_KEYS "\n"
                  "11: unknown key path in [repo d/r]; allowed: kind, " POLICY_KEYS
                  ", bucket, keep, " REPO_KEYS "\n");
}

static void bad_values_are_refused(void **state)
{
    (void)state;
    assert_faults("[keepfs]\nmax_jobs = 65\nmax_queue = 0\nstate = var/lib\n"
                  "[store d]\nkind = dir\npath = /a/../b\nlevel = +1\nmode =\nstrict = 1\n"
                  "[repo d/r]\nkind = cloud\nbucket = ; nothing\nkeep = 99999999999999999999\n",
                  "2: max_jobs = 65 is out of range; allowed: a number from 1 to 64\n"
                  "3: max_queue = 0 is out of range; allowed: a number from 1 to 100000\n"
                  "4: state = var/lib is not absolute; allowed: an absolute path without \"..\"\n"
                  "7: path = /a/../b has a \"..\" in it; allowed: an absolute path without "
                  "\"..\"\n"
                  "8: level = +1 is no decimal number; allowed: a number from 1 to 9\n"
                  "9: mode has no value; allowed: fast, slow\n"
                  "10: strict = 1 is neither yes nor no; allowed: yes, no\n"
                  "13: bucket has no value; allowed: any text\n"
                  "14: keep = 99999999999999999999 is out of range; allowed: a number from 0 to "
                  "1000\n");
}

static void unknown_and_missing_kinds_list_those_there_are(void **state)
{
    (void)state;
    assert_faults("[store a]\npath = /x\nkind = tape\n"
                  "[store b]\npath = /x\n"
                  "[repo a/r]\nkind = tape\n"
                  "[repo b/r]\npath = /y\n"
                  "[store c]\nkind =\n"
                  "[repo c/r]\nkind = cloud\nbucket = c\n",
                  "3: unknown kind tape in [store a]; allowed: dir, pipe\n"
                  "4: [store b] has no kind; required: kind = ..., one of: dir, pipe\n"
                  "7: unknown kind tape in [repo a/r]; allowed: disk, cloud, mist\n"
                  "8: [repo b/r] has no kind; required: kind = ..., one of: disk, cloud, mist\n"
                  "11: unknown kind  in [store c]; allowed: dir, pipe\n");
}

static void missing_keys_are_refused(void **state)
{
    (void)state;
    assert_faults("[store d]\nkind = dir\n[repo d/r]\nkind = disk\n",
                  "1: [store d] has no path; required: path = ... (what to back up)\n"
                  "3: [repo d/r] has no path; required: path = ... (the directory)\n"
                  "3: [repo d/r] has no keep; required: keep = ... (keep)\n");
}

static void a_key_with_a_bad_value_is_not_called_missing_too(void **state)
{
    (void)state;
    assert_faults("[store d]\nkind = dir\npath = d\n[repo d/r]\nkind = cloud\nbucket = b\n",
                  "3: path = d is not absolute; allowed: an absolute path without \"..\"\n");
}

static void sections_given_twice_are_refused(void **state)
{
    (void)state;
    assert_faults(HEAD "[keepfs]\nmax_jobs = 1\n"
                       "[store   app]\nkind = pipe\ncommand = other\n"
                       "[repo app/cloud]\nkind = cloud\nbucket = app\n"
                       "[defaults]\n[defaults]\n"
                       "[store app]\nbogus = 1\nkind = dir\n",
                  "9: duplicate section [keepfs], given at line 1 already; allowed: each section "
                  "once\n"
                  "11: duplicate section [store app], given at line 3 already; allowed: each "
                  "section once\n"
                  "14: duplicate section [repo app/cloud], given at line 6 already; allowed: each "
                  "section once\n"
                  "18: duplicate section [defaults], given at line 17 already; allowed: each "
                  "section once\n"
                  "19: duplicate section [store app], given at line 3 already; allowed: each "
                  "section once\n"
                  "20: unknown key bogus in [store app]; allowed: kind, path, exclude, level, "
                  "mode, strict, scratch, " STORE_KEYS "\n");
}

static void keys_given_twice_are_refused_unless_repeatable(void **state)
{
    (void)state;
    assert_faults("[keepfs]\nmax_jobs = 1\nmax_jobs = 1\n"
                  "[store d]\nkind = dir\nkind = pipe\npath = @/d\nexclude = a\nexclude = a\n"
                  "path = @/e\n"
                  "[repo d/r]\nkind = cloud\nbucket = b\n",
                  "3: duplicate key max_jobs in [keepfs], given at line 2 already; allowed: once\n"
                  "6: duplicate key kind in [store d], given at line 5 already; allowed: once\n"
                  "10: duplicate key path in [store d], given at line 7 already; allowed: once\n");
}

static void stores_without_repo_and_repos_without_store_are_refused(void **state)
{
    (void)state;
    assert_faults("[store lonely]\nkind = pipe\ncommand = x\n"
                  "[repo stray/r]\nkind = cloud\nbucket = b\n",
                  "1: store lonely has no repo; required: at least one section [repo "
                  "lonely/NAME]\n"
                  "4: [repo stray/r] is of an unknown store; allowed: the id of a [store ID], and "
                  "there is no [store stray]\n");
}

static void too_many_repos_of_a_store_are_refused(void **state)
{
    (void)state;
    struct buf text = BUF_INIT;

    buf_adds(&text, "[store a]\nkind = pipe\ncommand = x\n");
    for (int i = 0; i < LIMIT_REPOS_PER_STORE; i++)
        buf_addf(&text, "[repo a/r%d]\nkind = cloud\nbucket = b%d\n", i, i);
    config_free(load_good(buf_text(&text)));
    buf_adds(&text, "[repo a/more]\nkind = cloud\nbucket = more\n");
    assert_faults(buf_text(&text), "196: too many repos of store a; allowed: up to 64\n");
    buf_release(&text);
}

static void too_many_stores_are_refused(void **state)
{
    (void)state;
    struct buf text = BUF_INIT;

    for (int i = 0; i <= LIMIT_STORES; i++)
        buf_addf(&text,
                 "[store s%d]\nkind = pipe\ncommand = x\n"
                 "[repo s%d/r]\nkind = cloud\nbucket = b%d\n",
                 i, i, i);
    assert_faults(buf_text(&text), "60001: too many stores; allowed: up to 10000\n");
    buf_release(&text);
}

static void more_faults_than_anybody_reads_are_counted(void **state)
{
    (void)state;
    struct buf text = BUF_INIT, faults = BUF_INIT;

    for (int i = 0; i < 10007; i++)
        buf_adds(&text, "x\n");
    assert_null(load(buf_text(&text), NULL, &faults));
    char *last = expand("@/keepfs.conf: 7 more faults; required: correct those above first\n");
    assert_true(faults.len > strlen(last));
    assert_string_equal(buf_text(&faults) + faults.len - strlen(last), last);
    assert_non_null(strstr(buf_text(&faults), "keepfs.conf:10000: a line without"));
    assert_null(strstr(buf_text(&faults), "keepfs.conf:10001: a line without"));
    free(last);
    buf_release(&faults);
    buf_release(&text);
}

/* ---- the state directory ---- */

/* With another effective user for as long as it takes; false if we may not. */
static struct config *load_as_nobody(struct buf *faults)
{
    uid_t me = geteuid();

    write_config("", 0);
    assert_int_equal(chmod(dir, 0755), 0);
    assert_int_equal(chmod(file, 0644), 0);
    if (me == 0)
        assert_int_equal(seteuid(65534), 0);
    struct config *c = config_load(file, NULL, faults);
    assert_int_equal(seteuid(me), 0);
    return c;
}

static void assert_state(struct config *c, const char *wanted)
{
    char *whole = expand(wanted);

    assert_non_null(c);
    assert_string_equal(c->state, whole);
    config_free(c);
    free(whole);
}

static void the_state_of_a_user_is_where_the_environment_says(void **state)
{
    (void)state;
    struct buf faults = BUF_INIT;
    char *xdg = expand("@/xdg//"), *home = expand("@/home");

    setenv("XDG_STATE_HOME", xdg, 1);
    setenv("HOME", home, 1);
    assert_state(load_as_nobody(&faults), "@/xdg/keepfs");
    setenv("XDG_STATE_HOME", "relative", 1);
    assert_state(load_as_nobody(&faults), "@/home/.local/state/keepfs");
    unsetenv("XDG_STATE_HOME");
    assert_state(load_as_nobody(&faults), "@/home/.local/state/keepfs");
    setenv("HOME", "relative", 1);
    assert_null(load_as_nobody(&faults));
    assert_non_null(strstr(buf_text(&faults),
                           "keepfs.conf: no place for the state: neither $XDG_STATE_HOME nor $HOME "
                           "is an absolute path; allowed: state = PATH in [keepfs]\n"));
    buf_release(&faults);
    free(xdg);
    free(home);
}

static void the_state_of_root_is_in_var_lib(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    char *wanted = path_resolve("/var/lib/keepfs");
    struct config *c = load_good("");
    assert_string_equal(c->state, wanted);
    config_free(c);
    free(wanted);
}

/* ---- mutations ---- */

static uint32_t dice = 2463534242u;

static size_t roll(size_t sides)
{
    dice ^= dice << 13;
    dice ^= dice >> 17;
    dice ^= dice << 5;
    return dice % sides;
}

static void mutate(struct buf *b)
{
    static const char bytes[] = "[]=;#/ \n\t.@-9aZ\"\\\x01\xff";
    size_t at = roll(b->len), len = roll(b->len - at < 40 ? b->len - at : 40);

    switch (roll(4)) {
    case 0: /* another byte, also NUL */
        b->data[at] = bytes[roll(sizeof bytes)];
        break;
    case 1: /* a hole */
        memmove(b->data + at, b->data + at + len, b->len - at - len);
        buf_truncate(b, b->len - len);
        break;
    case 2: /* a piece of elsewhere over what is here */
        memmove(b->data + at, b->data + roll(b->len - len), len);
        break;
    default: /* a piece again at the end */
        for (size_t i = 0; i < len; i++)
            buf_add(b, &(char){b->data[at + i]}, 1);
        break;
    }
    if (b->len == 0)
        buf_adds(b, "\n");
}

/* Every line is FILE: or FILE:LINE:, then what is wrong and what is allowed. */
static void assert_fault_lines(const struct buf *faults)
{
    const char *line = buf_text(faults);

    for (const char *end; *line; line = end + 1) {
        end = strchr(line, '\n');
        assert_non_null(end);
        assert_memory_equal(line, file, strlen(file));
        assert_int_equal(line[strlen(file)], ':');
        const char *allowed = strstr(line, "; allowed: "), *required = strstr(line, "; required: ");
        assert_true((allowed && allowed < end) || (required && required < end));
    }
}

static void mutated_files_are_loaded_or_refused_with_reasons(void **state)
{
    (void)state;
    char *good = expand("[keepfs]\nstate = @/s\nmax_jobs = 2\n[defaults]\nlevel = 4\nkeep = 3\n"
                        "[store a]\nkind = dir\npath = @/a\nexclude = x y\nmode = fast\n"
                        "[repo a/r]\nkind = disk\npath = @/r ; near\n[repo a/c]\nkind = cloud\n"
                        "bucket = b\n# end\n[store p]\nkind = pipe\ncommand = echo a=b\n"
                        "[repo p/r]\nkind = disk\npath = @/r2\nkeep = 1\n");
    size_t loaded = 0, refused = 0;

    for (int round = 0; round < 10000; round++) {
        struct buf text = BUF_INIT, faults = BUF_INIT;
        buf_adds(&text, good);
        for (size_t i = roll(4); i > 0; i--)
            mutate(&text);
        write_config(text.data, text.len);
        struct config *c = config_load(file, "/mountpoint", &faults);
        assert_int_equal(c == NULL, faults.len > 0);
        assert_fault_lines(&faults);
        *(c ? &loaded : &refused) += 1;
        config_free(c);
        buf_release(&faults);
        buf_release(&text);
    }
    assert_true(loaded > 1000 && refused > 1000);
    free(good);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_whole_file_gives_stores_and_repos_in_its_order),
        TEST(an_empty_file_is_a_configuration_of_nothing),
        TEST(ids_are_checked),
        TEST(the_longest_ids_are_kept_whole),
        TEST(lines_are_kept_whole_up_to_the_ceiling_and_refused_above),
        TEST(defaults_reach_the_sections_that_have_the_key_and_do_not_give_it),
        TEST(defaults_take_neither_kind_nor_places_nor_strangers),
        TEST(a_bad_default_is_reported_once_though_nobody_uses_it),
        TEST(a_default_that_suits_another_kind_is_reported_at_the_section),
        TEST(unknown_sections_are_refused),
        TEST(bad_ids_are_refused),
        TEST(bad_headers_are_refused),
        TEST(lines_that_are_no_pairs_are_refused),
        TEST(keys_before_any_section_are_refused),
        TEST(pairs_behind_a_bad_header_are_not_those_of_the_section_before),
        TEST(nul_bytes_are_refused),
        TEST(control_characters_are_escaped_in_faults),
        TEST(files_that_cannot_be_read_give_one_line),
        TEST(a_huge_file_is_refused),
        TEST(a_pipe_is_read_like_a_file),
        TEST(unknown_keys_are_refused_with_those_of_the_kind),
        TEST(bad_values_are_refused),
        TEST(unknown_and_missing_kinds_list_those_there_are),
        TEST(missing_keys_are_refused),
        TEST(a_key_with_a_bad_value_is_not_called_missing_too),
        TEST(sections_given_twice_are_refused),
        TEST(keys_given_twice_are_refused_unless_repeatable),
        TEST(stores_without_repo_and_repos_without_store_are_refused),
        TEST(too_many_repos_of_a_store_are_refused),
        TEST(too_many_stores_are_refused),
        TEST(more_faults_than_anybody_reads_are_counted),
        TEST(the_state_of_a_user_is_where_the_environment_says),
        TEST(the_state_of_root_is_in_var_lib),
        TEST(mutated_files_are_loaded_or_refused_with_reasons),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
