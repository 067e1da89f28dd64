/* SPDX-License-Identifier: MIT */
/*
 * fuzz_config.c - any bytes as a configuration: loaded, or at least one line that says why not.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    struct buf faults = BUF_INIT;
    int fd = memfd_create("config", MFD_CLOEXEC);

    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct config *c = config_load(path, NULL, &faults);
    if (!c && faults.len == 0)
        abort();
    config_free(c);
    buf_release(&faults);
    close(fd);
    return 0;
}
