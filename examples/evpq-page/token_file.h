/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_PAGE_TOKEN_FILE_H
#define EVPQ_PAGE_TOKEN_FILE_H

#include <stdbool.h>

/*
 * A token in a file, there as a whole or not at all, whenever the program or
 * the machine stops. Where stdout is a file too, the second line says how far
 * it went when it held just the rows before the token, and in which format: what
 * a killed program wrote behind that can be cut off.
 *
 *     AgAB...
 *     stdout DEVICE INODE BYTES FORMAT
 */
struct token_file {
    const char *path; /* NULL: off, and each call does nothing, well */
    const char *format;
    char *real; /* the same without links, allocated */
    char *part; /* the new one until it is complete; in the same folder, allocated */
};

/* Tries the folder. `format` is what the rows are written in. False: said why. */
bool token_file_open(struct token_file *file, const char *path, const char *format);
/* Replaces it. To be called when stdout has been flushed. False: said why. */
bool token_file_write(struct token_file *file, const char *token);
void token_file_close(struct token_file *file);

/*
 * The token in a file, allocated; NULL: said why. When stdout is the file whose
 * rows end with the token, it is cut back to them, and *continued is set; when
 * it cannot go on there, for it has lost rows or is in another format, it is
 * refused.
 */
char *token_file_read(const char *path, const char *format, bool *continued);

#endif /* EVPQ_PAGE_TOKEN_FILE_H */
