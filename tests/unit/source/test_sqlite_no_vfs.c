/* SPDX-License-Identifier: MIT */
/* A SQLite that takes no VFS: no database is read past the one that has no write. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "database.h"
#include "source/sqlite_vfs.h"

#include <dlfcn.h>

int sqlite3_vfs_register(sqlite3_vfs *vfs, int make_default)
{
    int (*real)(sqlite3_vfs *, int);

    *(void **)&real = dlsym(RTLD_NEXT, "sqlite3_vfs_register");
    return strncmp(vfs->zName, "keepfs", 6) == 0 ? SQLITE_NOMEM : real(vfs, make_default);
}

static void the_backup_fails_and_the_database_is_not_opened(void **state)
{
    struct base *b = *state;

    base_sql(b, "PRAGMA journal_mode = WAL; " ROWS_SQL);
    base_remember(b);
    assert_null(sqlite_vfs_name());
    base_fails(b, ERR_INTERNAL, "SQLite does not take the VFS");
    base_is_untouched(b);
    assert_int_equal(dir_count(b->src), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_backup_fails_and_the_database_is_not_opened, base_setup,
                                        base_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
