/* SPDX-License-Identifier: MIT */
/*
 * file_writer.h - a new file as the last link of a chain: exclusive, paced, durable when finished.
 */
#ifndef KEEPFS_DESTINATION_FILE_WRITER_H
#define KEEPFS_DESTINATION_FILE_WRITER_H

#include "keepfs/stream.h"

/*
 * Makes `name` in the directory `dir_fd`, which must outlive the writer, with mode 0600 exactly;
 * it must not exist. `place` is the directory's path for messages. finish fsyncs and closes;
 * freeing the writer unfinished removes the file.
 */
int file_writer_new(int dir_fd, const char *place, const char *name, struct writer **out,
                    struct error *err);

#endif
