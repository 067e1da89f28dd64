/* SPDX-License-Identifier: MIT */
/*
 * text.c - escaping. Bytes above 0x7f pass: they are UTF-8 more often than not, and never a
 * newline.
 */
#include "fs/text.h"

void text_escape(struct buf *out, const char *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)data[i];
        if (c < 0x20 || c == 0x7f || c == '\\')
            buf_addf(out, "\\x%02x", c);
        else
            buf_add(out, data + i, 1);
    }
}
